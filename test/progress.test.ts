import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { LineIssueFormat, LineIssueKind } from "../server/src/gen/pulsewire/progress/v1/line_issue_pb.js";
import { type Progress, ReportResult } from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { addPerson } from "./helpers/people.ts";
import { bearer, withKey } from "./helpers/platform.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const clientKrn = "krn:first:client:123";
const at = (time: Timestamp | undefined) => (time ? timestampMs(time) : Number.NaN);
let files = 0;
const newFile = () => ({ clientKrn, filename: `file-${++files}.csv` });
const sums = ({ counts }: Pick<Progress, "counts"> | undefined = { counts: undefined }) =>
  counts && [counts.done, counts.warn, counts.failed].map(Number);

describe("progress", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let progress: Client<typeof ProgressService>;
  let owner: ReturnType<typeof bearer>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_PROGRESS_GRACE: "1", PULSEWIRE_PROGRESS_STALL: "1" });
    session = grpcSession(server.url);
    progress = createClient(ProgressService, session.transport);
    owner = bearer(server.tenant.token);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("the counts add up, and each report is answered with those right after it", async () => {
    const file = newFile();
    const made = await progress.reportProgress({ ...file, counts: { done: 100n }, total: 10_000n }, owner);
    assert.equal(made.result, ReportResult.CREATED);
    assert.deepEqual(sums(made.progress), [100, 0, 0]);
    assert.equal(made.progress?.total, 10_000n);
    assert.equal(made.progress?.percentage, 1);
    assert.equal(made.progress?.email, server.tenant.email);
    assert.equal(made.progress?.version, 1n);
    const second = await progress.reportProgress(
      { ...file, counts: { done: 500n, warn: 10n, failed: 2n } },
      owner,
    );
    assert.equal(second.result, ReportResult.UPDATED);
    assert.deepEqual(sums(second.progress), [600, 10, 2]);
    assert.equal(second.progress?.total, 10_000n);
    assert.equal(second.progress?.version, 2n);
    assert.equal(second.progress?.isCompleted, false);
    const last = await progress.reportProgress({ ...file, counts: { done: 9_088n }, isLast: true }, owner);
    assert.deepEqual(sums(last.progress), [9_688, 10, 2]);
    assert.equal(last.progress?.isCompleted, true);
    assert.equal(last.progress?.percentage, 100);
    const refused = await assertFails(
      progress.reportProgress({ ...file, counts: { done: 1n } }, owner),
      Code.FailedPrecondition,
      "ALREADY_COMPLETED",
    );
    assert.equal(refused.message, "This file processing has already been completed");
    const read = await progress.getProgress(file, owner);
    assert.deepEqual(sums(read.progress), [9_688, 10, 2]);
    assert.ok(read.progress?.completedAt && read.progress.finalAt);
  });

  test("reports that arrive together are one change, each with its own running counts", async () => {
    const file = newFile();
    await progress.reportProgress(file, owner);
    const answers = await Promise.all(
      Array.from({ length: 200 }, () => progress.reportProgress({ ...file, counts: { done: 1n } }, owner)),
    );
    const running = answers.map((answer) => Number(answer.progress?.counts?.done)).sort((a, b) => a - b);
    assert.deepEqual(
      running,
      Array.from({ length: 200 }, (_, index) => index + 1),
    );
    const read = await progress.getProgress(file, owner);
    assert.deepEqual(sums(read.progress), [200, 0, 0]);
    assert.ok(Number(read.progress?.version) < 100, `${read.progress?.version} changes for 200 reports`);
  });

  test("only the creator may report; the same filename of another client is another file", async () => {
    const file = newFile();
    await progress.reportProgress({ ...file, counts: { done: 100n } }, owner);
    const other = await addPerson(server.database, server.tenant.tenantId, `other-${files}@first.example`);
    const auth = createClient(AuthService, session.transport);
    const { accessToken } = await auth.login({
      email: other.email,
      password: other.password,
      tenantSlug: "first",
    });
    const refused = await assertFails(
      progress.reportProgress({ ...file, counts: { done: 50n } }, bearer(accessToken)),
      Code.PermissionDenied,
      "NOT_CREATOR",
    );
    assert.equal(refused.message, "Only the original creator can update this file's progress");
    await assertFails(
      progress.reportProgress(file, withKey(server.tenant.apiKey)),
      Code.PermissionDenied,
      "NOT_CREATOR",
    );
    // A key that reports for the creator is the creator.
    const forOwner = { ...file, email: server.tenant.email.toUpperCase(), counts: { done: 1n } };
    const answer = await progress.reportProgress(forOwner, withKey(server.tenant.apiKey));
    assert.deepEqual(sums(answer.progress), [101, 0, 0]);
    await assertFails(
      progress.reportProgress({ ...file, email: other.email }, owner),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    const elsewhere = { ...file, clientKrn: "krn:first:client:456" };
    const answered = await progress.reportProgress(
      { ...elsewhere, counts: { done: 7n } },
      bearer(accessToken),
    );
    assert.equal(answered.result, ReportResult.CREATED);
    assert.deepEqual(sums(answered.progress), [7, 0, 0]);
  });

  test("a client of another tenant is not there", async () => {
    const stranger = await server.register("second");
    const file = newFile();
    await progress.reportProgress(file, owner);
    const as = bearer(stranger.token);
    await assertFails(progress.reportProgress(file, as), Code.NotFound, "NOT_FOUND");
    await assertFails(progress.getProgress(file, as), Code.NotFound, "NOT_FOUND");
    await assertFails(progress.listLineIssues(file, as), Code.NotFound, "NOT_FOUND");
    assert.deepEqual((await progress.listProgress({ clientKrn }, as)).progress, []);
    await assertFails(
      progress.watchProgress(file, as)[Symbol.asyncIterator]().next(),
      Code.NotFound,
      "NOT_FOUND",
    );
  });

  test("an update id counts once; with another report it is a conflict; without one each report counts", async () => {
    const file = newFile();
    const report = {
      ...file,
      updateId: "u-1",
      counts: { done: 5n },
      errors: [{ line: 3n, message: "no date" }],
    };
    const first = await progress.reportProgress(report, owner);
    assert.equal(first.result, ReportResult.CREATED);
    const again = await Promise.all([1, 2, 3].map(() => progress.reportProgress(report, owner)));
    for (const answer of again) {
      assert.equal(answer.result, ReportResult.DUPLICATE);
      assert.deepEqual(sums(answer.progress), [5, 0, 0]);
      assert.equal(answer.progress?.version, 1n);
      assert.equal(answer.progress?.errorCount, 1n);
    }
    await assertFails(
      progress.reportProgress({ ...report, counts: { done: 6n } }, owner),
      Code.AlreadyExists,
      "CONFLICT",
    );
    const elsewhere = await progress.reportProgress({ ...report, ...newFile() }, owner);
    assert.equal(elsewhere.result, ReportResult.CREATED);
    const together = Array.from({ length: 20 }, () => ({ ...file, updateId: "u-2", counts: { done: 1n } }));
    const answers = await Promise.all(together.map((each) => progress.reportProgress(each, owner)));
    assert.equal(answers.filter(({ result }) => result === ReportResult.UPDATED).length, 1);
    await progress.reportProgress({ ...file, counts: { done: 1n } }, owner);
    await progress.reportProgress({ ...file, counts: { done: 1n } }, owner);
    assert.deepEqual(sums((await progress.getProgress(file, owner)).progress), [8, 0, 0]);
  });

  test("a call that is repeated with its request id counts once and is answered as the first time", async () => {
    const file = newFile();
    const requestId = randomUUID();
    await progress.reportProgress({ ...file, counts: { done: 1n } }, owner);
    const call = () => progress.reportProgress({ ...file, counts: { done: 5n }, requestId }, owner);
    const answers = await Promise.all([
      call(),
      call(),
      progress.reportProgress({ ...file, counts: { done: 10n } }, owner),
    ]);
    await progress.reportProgress({ ...file, counts: { done: 10n } }, owner);
    assert.deepEqual(answers[0], answers[1]);
    assert.deepEqual(answers[0], await call());
    assert.equal(answers[0]?.result, ReportResult.UPDATED);
    assert.deepEqual(sums((await progress.getProgress(file, owner)).progress), [26, 0, 0]);
  });

  test("reports that were overtaken by the last one count within the grace time, and not after", async () => {
    const file = newFile();
    const report = (updateId: string, rest: object = {}) =>
      progress.reportProgress({ ...file, updateId, counts: { done: 1n }, ...rest }, owner);
    await report("1");
    await report("4", { isLast: true });
    const late = await report("2");
    assert.equal(late.progress?.isCompleted, true);
    assert.deepEqual(sums(late.progress), [3, 0, 0]);
    const final = at(late.progress?.finalAt);
    await new Promise((resolve) => setTimeout(resolve, final - Date.now() + 20));
    await assertFails(report("3"), Code.FailedPrecondition, "ALREADY_COMPLETED");
    assert.equal((await report("2")).result, ReportResult.DUPLICATE);
    assert.deepEqual(sums((await progress.getProgress(file, owner)).progress), [3, 0, 0]);
  });

  test("completion is told to webhooks in the same transaction, once", async () => {
    const file = newFile();
    await progress.reportProgress({ ...file, updateId: "a", counts: { done: 2n }, isLast: true }, owner);
    await progress.reportProgress({ ...file, updateId: "b", counts: { done: 2n }, isLast: true }, owner);
    const { rows } = await server.database.superuser.query(
      "select data from webhook_events where type = 'progress.completed' and data ->> 'filename' = $1",
      [file.filename],
    );
    assert.equal(rows.length, 1);
    assert.equal(rows[0].data.counts.done, "2");
  });

  test("negative and absurd increments are refused and say so", async () => {
    const file = newFile();
    for (const counts of [{ done: -1n }, { warn: 1_000_000_001n }, { failed: -5n }]) {
      const { fields } = await assertFails(
        progress.reportProgress({ ...file, counts }, owner),
        Code.InvalidArgument,
        "INVALID_FIELD",
      );
      assert.deepEqual(fields, [`counts.${Object.keys(counts)[0]}`]);
    }
    await assertFails(progress.getProgress(file, owner), Code.NotFound, "NOT_FOUND");
  });

  test("line issues are rows: with the file, in pages, by kind and line", async () => {
    const file = newFile();
    const issues = (kind: string, lines: number[]) =>
      lines.map((line) => ({ line: BigInt(line), message: `${kind} ${line}`, rawLine: `${line},x` }));
    await progress.reportProgress(
      { ...file, errors: issues("e", [205, 150]), warnings: issues("w", [88, 195]) },
      owner,
    );
    await progress.reportProgress({ ...file, errors: issues("e", [312, 0]) }, owner);
    const read = await progress.getProgress(file, owner);
    assert.deepEqual(
      read.errors.map(({ line }) => Number(line)),
      [0, 150, 205, 312],
    );
    assert.deepEqual(
      read.warnings.map(({ line }) => Number(line)),
      [88, 195],
    );
    assert.equal(read.moreLineIssues, false);
    assert.equal(read.progress?.errorCount, 4n);
    const few = await progress.getProgress({ ...file, maxLineIssues: 1 }, owner);
    assert.deepEqual([few.errors.length, few.warnings.length, few.moreLineIssues], [1, 1, true]);

    const all: number[] = [];
    let pageToken = "";
    do {
      const page = await progress.listLineIssues({ ...file, pageSize: 2, pageToken }, owner);
      all.push(...page.lineIssues.map(({ line }) => Number(line)));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(all, [0, 88, 150, 195, 205, 312]);
    const some = await progress.listLineIssues(
      { ...file, kind: LineIssueKind.ERROR, lineFrom: 150n, lineUntil: 312n },
      owner,
    );
    assert.deepEqual(
      some.lineIssues.map(({ message }) => message),
      ["e 150", "e 205"],
    );
  });

  test("line issues go out as CSV and NDJSON, resumable", async () => {
    const file = newFile();
    const errors = Array.from({ length: 1_000 }, (_, index) => ({
      line: BigInt(index + 1),
      message: `say "${index}"`,
      rawLine: `${index},"a, b"\n`,
    }));
    for (let part = 0; part < 3; part++) {
      const lines = errors.map((each) => ({ ...each, line: each.line + BigInt(1_000 * part) }));
      await progress.reportProgress({ ...file, errors: lines }, owner);
    }
    for (const format of [LineIssueFormat.CSV, LineIssueFormat.NDJSON]) {
      const pieces: { text: string; cursor: string; count: number }[] = [];
      for await (const { data, cursor, lineIssues } of progress.exportLineIssues(
        { ...file, format },
        owner,
      )) {
        pieces.push({ text: Buffer.from(data).toString(), cursor, count: lineIssues });
      }
      assert.equal(
        pieces.reduce((sum, { count }) => sum + count, 0),
        3_000,
      );
      const whole = pieces.map(({ text }) => text).join("");
      if (format === LineIssueFormat.CSV) {
        const [header, first] = whole.split("\r\n");
        assert.equal(header, "kind,line,message,raw_line,reported_at");
        assert.match(first ?? "", /^error,1,"say ""0""","0,""a, b""\n",\d{4}-.*Z$/);
        assert.equal(whole.split("\r\n").length, 3_002);
      } else {
        const lines = whole
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line));
        assert.deepEqual(
          lines.map(({ line }) => Number(line)),
          Array.from({ length: 3_000 }, (_, index) => index + 1),
        );
        assert.equal(lines[0].kind, "LINE_ISSUE_KIND_ERROR");
        assert.equal(lines[0].rawLine, '0,"a, b"\n');
      }
      const cursor = pieces[0]?.cursor ?? "";
      let rest = "";
      for await (const { data } of progress.exportLineIssues({ ...file, format, cursor }, owner)) {
        rest += Buffer.from(data).toString();
      }
      assert.equal((pieces[0]?.text ?? "") + rest, whole);
    }
    const empty = newFile();
    await progress.reportProgress(empty, owner);
    const pieces = [];
    for await (const { data } of progress.exportLineIssues(empty, owner))
      pieces.push(Buffer.from(data).toString());
    assert.deepEqual(pieces, ["kind,line,message,raw_line,reported_at\r\n"]);
  });

  test("files are listed by client, e-mail, name and state, in pages", async () => {
    const client = `krn:first:client:list-${randomUUID()}`;
    const key = withKey(server.tenant.apiKey);
    const names = ["a/1.csv", "a/2.csv", "b/1.csv", "b/2.csv", "b/3.csv"];
    for (const [index, filename] of names.entries()) {
      await progress.reportProgress(
        {
          clientKrn: client,
          filename,
          email: index % 2 ? "odd@x.example" : "even@x.example",
          isLast: filename === "b/3.csv",
          counts: { failed: filename === "a/2.csv" ? 1n : 0n },
        },
        key,
      );
    }
    const list = async (filter: object) => {
      const found: string[] = [];
      let pageToken = "";
      do {
        const page = await progress.listProgress(
          { clientKrn: client, pageSize: 2, pageToken, ...filter },
          owner,
        );
        found.push(...page.progress.map(({ filename }) => filename));
        pageToken = page.nextPageToken;
      } while (pageToken);
      return found;
    };
    assert.deepEqual(await list({}), names.toReversed());
    assert.deepEqual(await list({ oldestFirst: true }), names);
    assert.deepEqual(await list({ email: "ODD@x.example", oldestFirst: true }), ["a/2.csv", "b/2.csv"]);
    assert.deepEqual(await list({ filenamePrefix: "a/", oldestFirst: true }), ["a/1.csv", "a/2.csv"]);
    assert.deepEqual(await list({ filename: "b/1.csv" }), ["b/1.csv"]);
    assert.deepEqual(await list({ isCompleted: true }), ["b/3.csv"]);
    assert.deepEqual(await list({ isCompleted: false, oldestFirst: true }), names.slice(0, 4));
    assert.deepEqual(await list({ hasErrors: true }), ["a/2.csv"]);
    assert.deepEqual((await list({ hasErrors: false })).length, 4);
    const { progress: all } = await progress.listProgress({ clientKrn: client, oldestFirst: true }, owner);
    const bounds = { createdFrom: all[0]?.createdAt, createdUntil: all[4]?.createdAt };
    const between = all.filter(
      ({ createdAt }) => at(createdAt) >= at(bounds.createdFrom) && at(createdAt) < at(bounds.createdUntil),
    );
    assert.deepEqual(
      await list({ ...bounds, oldestFirst: true }),
      between.map(({ filename }) => filename),
    );
    assert.equal((await list({ stalled: true })).includes("b/3.csv"), false);
  });

  test("a file without reports stands still, and says when", async () => {
    const file = newFile();
    const { progress: made } = await progress.reportProgress(
      { ...file, counts: { done: 10n }, total: 100n },
      owner,
    );
    assert.equal(made?.stalled, false);
    assert.ok(made?.eta);
    const stallsAt = at(made?.stallsAt);
    await new Promise((resolve) => setTimeout(resolve, stallsAt - Date.now() + 20));
    const { progress: read } = await progress.getProgress(file, owner);
    assert.equal(read?.stalled, true);
    assert.equal(read?.eta, undefined);
    const stalled = await progress.listProgress({ clientKrn, stalled: true, filename: file.filename }, owner);
    assert.equal(stalled.progress.length, 1);
  });
});
