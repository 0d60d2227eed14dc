/**
 * Whatever the order, however often and through whichever server updates are sent, and whatever breaks meanwhile: a file's
 * counts are the sums of its distinct updates, and no answer ever shows less than an earlier one.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import fc from "fast-check";
import {
  type Progress,
  ReportProgressRequestSchema,
  ReportResult,
} from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { type FileState, fold, type Outcome } from "../server/src/progress/fold.ts";
import { reportOf } from "../server/src/progress/report.ts";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

interface Update {
  readonly id: number;
  readonly file: number;
  readonly done: number;
  readonly warn: number;
  readonly failed: number;
  readonly total: number;
  readonly issues: number;
  readonly isLast: boolean;
}

const fileCount = 3;
const updates = fc
  .array(
    fc.record({
      file: fc.nat(fileCount - 1),
      done: fc.nat(1_000_000_000),
      warn: fc.nat(50),
      failed: fc.nat(50),
      total: fc.oneof(fc.constant(0), fc.nat(1_000_000)),
      issues: fc.oneof(fc.constant(0), fc.nat(4)),
      isLast: fc.oneof(
        { weight: 9, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
    }),
    { minLength: 1, maxLength: 60 },
  )
  .map((list) => list.map((update, id): Update => ({ ...update, id })));

/** How they are sent: which, by whom, and whether the answer is lost on the way. */
const deliveries = updates.chain((list) =>
  fc.record({
    list: fc.constant(list),
    again: fc.array(fc.nat(list.length - 1), { maxLength: 60 }),
    callers: fc.integer({ min: 1, max: 12 }),
    order: fc.infiniteStream(fc.nat()),
    cuts: fc.array(fc.nat(60), { maxLength: 3 }),
    plain: fc.nat(20),
  }),
);

const sumOf = (list: readonly Update[], value: (update: Update) => number) =>
  list.reduce((sum, update) => sum + BigInt(value(update)), 0n);

describe("progress, whatever happens", () => {
  let server: TestServer;
  let other: Awaited<ReturnType<typeof serve>>;
  let sessions: ReturnType<typeof grpcSession>[];
  let services: Client<typeof ProgressService>[];
  /** The servers by gRPC and by JSON. */
  let plainServices: Client<typeof ProgressService>[];
  let as: ReturnType<typeof withKey>;

  before(async () => {
    server = await startTestServer();
    other = await serve(server.database);
    sessions = [grpcSession(server.url), grpcSession(other.url)];
    services = sessions.map(({ transport }) => createClient(ProgressService, transport));
    const json = [server, other].map(({ url: baseUrl }) =>
      createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
    );
    plainServices = [...services, ...json.map((transport) => createClient(ProgressService, transport))];
    as = withKey(server.tenant.apiKey);
  });
  after(async () => {
    for (const session of sessions) session[Symbol.dispose]();
    await other[Symbol.asyncDispose]();
    await server.stop();
  });

  /** As when the network or the database breaks: whoever is in a transaction does not know how it ended. */
  const cutDatabase = () =>
    server.database.superuser.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and application_name = 'pulsewire'`,
    );

  test("counts are the sums of the distinct updates, and never go down", async () => {
    await fc.assert(
      fc.asyncProperty(deliveries, async ({ list, again, callers, order, cuts, plain }) => {
        const clientKrn = `krn:first:client:${randomUUID()}`;
        const sends = [...list, ...again.map((index) => list[index] as Update)]
          .map((update) => ({ update, place: order.next().value as number }))
          .sort((a, b) => a.place - b.place)
          .map(({ update }) => update);
        const highest = new Map<number, Progress>();
        const firsts = new Map<number, number>();
        let sent = 0;
        const see = (file: number, progress: Progress | undefined, isNew: boolean) => {
          if (!progress) return;
          const before = highest.get(file);
          // Answers of one change arrive in any order; those of a later one show at least as much as an earlier one.
          if (before && before.version < progress.version && isNew) {
            for (const name of ["done", "warn", "failed"] as const) {
              assert.ok(
                (progress.counts?.[name] ?? 0n) >= (before.counts?.[name] ?? 0n),
                `${name} goes down`,
              );
            }
          }
          if (!before || progress.version > before.version) highest.set(file, progress);
        };
        const sendOne = async (update: Update, service: Client<typeof ProgressService>) => {
          const line = (index: number) => ({ line: BigInt(index), message: `of ${update.id}` });
          const request = {
            clientKrn,
            filename: `${update.file}.csv`,
            updateId: `u-${update.id}`,
            counts: { done: BigInt(update.done), warn: BigInt(update.warn), failed: BigInt(update.failed) },
            total: BigInt(update.total),
            isLast: update.isLast,
            errors: Array.from({ length: update.issues }, (_, index) => line(index)),
          };
          const startedAfter = highest.get(update.file)?.version ?? 0n;
          for (;;) {
            try {
              const { result, progress } = await service.reportProgress(request, {
                ...as,
                timeoutMs: 30_000,
              });
              const counted = result !== ReportResult.DUPLICATE;
              if (counted) firsts.set(update.id, (firsts.get(update.id) ?? 0) + 1);
              see(update.file, progress, (progress?.version ?? 0n) > startedAfter);
              return;
            } catch (error) {
              // Sent again, as anybody would who does not know whether it counted.
              const { code } = ConnectError.from(error);
              assert.ok(
                [Code.Unavailable, Code.Internal, Code.DeadlineExceeded].includes(code),
                String(error),
              );
              await sleep(10);
            }
          }
        };
        const queue = sends.values();
        const work = Array.from({ length: callers }, async (_, caller) => {
          for (const update of queue) {
            if (cuts.includes(sent++)) await cutDatabase();
            await sendOne(update, services[(caller + update.id) % 2] as Client<typeof ProgressService>);
          }
        });
        // Plain reports beside them, in every format and through both servers: each that was answered counts.
        const plainAnswers: bigint[] = [];
        const plainWork = Array.from({ length: cuts.length > 0 ? 0 : plain }, async (_, index) => {
          const service = plainServices[index % plainServices.length];
          const request = { clientKrn, filename: "plain.csv", counts: { done: 3n, warn: BigInt(index % 2) } };
          const answer = await service?.reportProgress(request, as);
          plainAnswers.push(answer?.progress?.counts?.done ?? -1n);
        });
        // Who may not report on the file is refused, whatever its reports meet on their way, and nothing of it counts.
        const strangers = Array.from({ length: plainWork.length >> 1 }, async (_, index) => {
          await plainWork[0];
          const request = {
            clientKrn,
            filename: "plain.csv",
            counts: { done: 1n },
            email: "stranger@b.example",
          };
          const refused = plainServices[index % plainServices.length]?.reportProgress(request, as);
          await assert.rejects(refused as Promise<unknown>, /Only the original creator/);
        });
        await Promise.all([...work, ...plainWork, ...strangers]);

        for (let file = 0; file < fileCount; file++) {
          const own = list.filter((update) => update.file === file);
          if (own.length === 0) continue;
          const read = services[0]?.getProgress({ clientKrn, filename: `${file}.csv` }, as);
          const { progress, errors } = (await read) ?? {};
          assert.equal(
            progress?.counts?.done,
            sumOf(own, ({ done }) => done),
          );
          assert.equal(
            progress?.counts?.warn,
            sumOf(own, ({ warn }) => warn),
          );
          assert.equal(
            progress?.counts?.failed,
            sumOf(own, ({ failed }) => failed),
          );
          assert.equal(progress?.total ?? 0n, BigInt(Math.max(...own.map(({ total }) => total))));
          assert.equal(
            progress?.isCompleted,
            own.some(({ isLast }) => isLast),
          );
          assert.equal(
            progress?.errorCount,
            sumOf(own, ({ issues }) => issues),
          );
          assert.equal(BigInt(Math.min(100, errors?.length ?? 0)), progress?.errorCount ?? -1n);
        }
        // A cut may have hidden the first answer; without one each update was new exactly once.
        for (const { id } of list) {
          const times = firsts.get(id) ?? 0;
          assert.ok(cuts.length > 0 ? times <= 1 : times === 1, `update ${id} was new ${times} times`);
        }
        if (plainAnswers.length > 0) {
          const { progress } =
            (await services[0]?.getProgress({ clientKrn, filename: "plain.csv" }, as)) ?? {};
          assert.equal(progress?.counts?.done, BigInt(3 * plainAnswers.length));
          assert.equal(progress?.counts?.warn, BigInt(Math.floor(plainAnswers.length / 2)));
          // Each was told the counts right after its own: no two the same, and none left out.
          const expected = plainAnswers.map((_, index) => BigInt(3 * (index + 1)));
          assert.deepEqual(
            plainAnswers.toSorted((a, b) => Number(a - b)),
            expected,
          );
        }
      }),
      { numRuns: 40, endOnFailure: true },
    );
  });

  test("folding is the same whichever way reports are grouped", () => {
    const now = new Date();
    const creator = { email: "a@b.example", apiKeyId: null };
    const empty: FileState = {
      id: "file",
      creator,
      done: 0n,
      warn: 0n,
      failed: 0n,
      total: null,
      version: 0n,
      recent: 0,
      errorCount: 0n,
      warningCount: 0n,
      hasErrors: false,
      hasUpdateIds: false,
      createdAt: now,
      updatedAt: now,
      completedAt: null,
    };
    fc.assert(
      fc.property(
        updates,
        fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 60, maxLength: 60 }),
        (list, sizes) => {
          const reports = list.map(({ id, done, warn, failed, total, isLast }) => {
            const counts = { done: BigInt(done), warn: BigInt(warn), failed: BigInt(failed) };
            const request = create(ReportProgressRequestSchema, { counts, total: BigInt(total), isLast });
            return reportOf(request, creator, `u-${id}`);
          });
          const whole = fold(empty, reports, new Map(), now, 60_000);
          let file = empty;
          const outcomes: Outcome[] = [];
          for (let start = 0, group = 0; start < reports.length; group++) {
            const some = reports.slice(start, start + (sizes[group % sizes.length] ?? 1));
            const folded = fold(file, some, new Map(), now, 60_000);
            file = folded.after;
            outcomes.push(...folded.outcomes);
            start += some.length;
          }
          const { version: _, ...rest } = file;
          const { version: __, ...expected } = whole.after;
          assert.deepEqual(rest, expected);
          const counts = (each: Outcome) => each.result !== "refused" && [each.file.done, each.file.failed];
          assert.deepEqual(outcomes.map(counts), whole.outcomes.map(counts));
        },
      ),
    );
  });
});
