import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import type {
  WatchProgressRequest,
  WatchProgressResponse,
} from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import type { PushStream, Sink } from "../server/src/rpc/push-stream.ts";
import { assertFails } from "./helpers/errors.ts";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";
import { openWires } from "./helpers/wires.ts";

type Progress = Client<typeof ProgressService>;
type Watched = Partial<
  Pick<WatchProgressRequest, "clientKrn" | "filename" | "cursor" | "includeCompleted" | "skipSnapshot">
>;

/** What a reader of WatchProgress knows of each file, checked as it comes: no version is left out or repeated. */
class View {
  readonly versions = new Map<string, bigint>();
  readonly done = new Map<string, bigint>();
  cursor = "";
  messages = 0;
  snapshotComplete = false;

  take({ snapshot, snapshotComplete, deltas, cursor }: WatchProgressResponse): void {
    this.messages++;
    if (snapshotComplete) this.snapshotComplete = true;
    for (const file of snapshot) {
      const name = `${file.clientKrn} ${file.filename}`;
      assert.ok(!this.versions.has(name), `${name} is in the snapshot twice`);
      this.versions.set(name, file.version);
      this.done.set(name, file.counts?.done ?? 0n);
    }
    for (const delta of deltas) {
      const name = `${delta.clientKrn} ${delta.filename}`;
      assert.equal(
        delta.version,
        (this.versions.get(name) ?? 0n) + 1n,
        `${name} misses or repeats a version`,
      );
      this.versions.set(name, delta.version);
      const done = delta.counts?.done ?? 0n;
      assert.ok(done >= (this.done.get(name) ?? 0n), `${name} goes down`);
      this.done.set(name, done);
    }
    if (cursor) this.cursor = cursor;
  }
}

/** Reads until the view is as wanted; breaks off after each `pieces` messages and resumes by cursor where given. */
async function watchUntil(
  progress: Progress,
  request: Watched,
  view: View,
  wanted: (view: View) => boolean,
  headers: { headers: Record<string, string> },
  pieces = Number.POSITIVE_INFINITY,
): Promise<void> {
  while (!wanted(view)) {
    let read = 0;
    const resumed = view.cursor ? { ...request, cursor: view.cursor } : request;
    for await (const message of progress.watchProgress(resumed, { ...headers, timeoutMs: 60_000 })) {
      view.take(message);
      if (wanted(view) || (++read >= pieces && view.cursor)) break;
    }
  }
}

describe("watching progress", () => {
  let server: TestServer;
  let other: Awaited<ReturnType<typeof serve>>;
  let session: ReturnType<typeof grpcSession>;
  let otherSession: ReturnType<typeof grpcSession>;
  let progress: Progress;
  let elsewhere: Progress;
  let as: ReturnType<typeof withKey>;

  before(async () => {
    server = await startTestServer();
    other = await serve(server.database);
    session = grpcSession(server.url);
    otherSession = grpcSession(other.url);
    progress = createClient(ProgressService, session.transport);
    elsewhere = createClient(ProgressService, otherSession.transport);
    as = withKey(server.tenant.apiKey);
  });
  after(async () => {
    session[Symbol.dispose]();
    otherSession[Symbol.dispose]();
    await other[Symbol.asyncDispose]();
    await server.stop();
  });

  const newClient = () => `krn:first:client:${randomUUID()}`;
  const report = (clientKrn: string, filename: string, rest: object = {}) =>
    progress.reportProgress({ clientKrn, filename, counts: { done: 1n }, ...rest }, as);

  test("a file that is not there yet is waited for; the stream stays open past its completion", async () => {
    const clientKrn = newClient();
    const view = new View();
    const seen: boolean[] = [];
    for await (const message of progress.watchProgress({ clientKrn, filename: "a.csv" }, as)) {
      view.take(message);
      seen.push(...message.deltas.map(({ isCompleted }) => isCompleted));
      if (view.messages === 1) {
        assert.ok(message.snapshotComplete && message.snapshot.length === 0);
        await report(clientKrn, "b.csv");
        await report(clientKrn, "a.csv", { total: 10n });
        await report(clientKrn, "a.csv", { isLast: true, updateId: "last" });
        await report(clientKrn, "a.csv", { updateId: "late" });
      }
      if (view.done.get(`${clientKrn} a.csv`) === 3n) break;
    }
    assert.deepEqual(seen, [false, true, true]);
    assert.deepEqual([...view.versions.keys()], [`${clientKrn} a.csv`]);
  });

  test("under load, over every protocol and from two servers, no version is missed or repeated across reconnects", async () => {
    const clientKrn = newClient();
    const perFile = 60;
    const names = ["1.csv", "2.csv", "3.csv"];
    const ofFile = (view: View) => view.done.get(`${clientKrn} 1.csv`) === BigInt(perFile);
    const ofClient = (view: View) =>
      names.every((name) => view.done.get(`${clientKrn} ${name}`) === BigInt(perFile));
    using wires = openWires(other.url);
    const watching = [
      progress,
      elsewhere,
      ...Object.values(wires.transports).map((wire) => createClient(ProgressService, wire)),
    ];
    const watches = watching.flatMap((service, index) => [
      watchUntil(service, { clientKrn, filename: "1.csv" }, new View(), ofFile, as, 7 + index),
      watchUntil(service, { clientKrn }, new View(), ofClient, as, index % 2 ? 20 : undefined),
      watchUntil(service, { skipSnapshot: index % 2 === 0 }, new View(), ofClient, as, 25),
    ]);
    await sleep(300);
    let reports = 0;
    const loads = names.flatMap((name) =>
      [progress, elsewhere].map(async (service) => {
        for (let index = 0; index < perFile / 2; index++) {
          await service.reportProgress({ clientKrn, filename: name, counts: { done: 1n } }, as);
          reports++;
        }
      }),
    );
    await Promise.all(loads);
    assert.equal(reports, names.length * perFile);
    await Promise.all(watches);
  });

  test("a snapshot of many files goes on into deltas without a gap, while they change", async () => {
    const clientKrn = newClient();
    const count = 2_500;
    await server.database.superuser.query(
      `insert into progress_files (tenant_id, id, key, client_krn, filename, email, api_key_id, version, done, created_at, updated_at)
       select $1, gen_random_uuid(), gen_random_uuid(), $2, 'old-' || n, '', null, 1, 1, now(), now() from generate_series(1, $3) n`,
      [server.tenant.tenantId, clientKrn, count],
    );
    const files = Array.from({ length: 20 }, (_, index) => `new-${index}.csv`);
    await Promise.all(files.map((name) => report(clientKrn, name)));
    await report(clientKrn, "completed.csv", { isLast: true });
    const view = new View();
    const changes = (async () => {
      for (let turn = 0; turn < 20; turn++) await Promise.all(files.map((name) => report(clientKrn, name)));
    })();
    const wanted = ({ done, snapshotComplete }: View) =>
      snapshotComplete && files.every((name) => done.get(`${clientKrn} ${name}`) === 21n);
    await watchUntil(progress, { clientKrn }, view, wanted, as);
    await changes;
    assert.equal(view.versions.size, count + files.length);
    const all = new View();
    await watchUntil(
      progress,
      { clientKrn, includeCompleted: true },
      all,
      (seen) => seen.snapshotComplete,
      as,
    );
    assert.ok(all.versions.has(`${clientKrn} completed.csv`));
  });

  test("cursors are of one query; those that are past retention say so", async () => {
    const clientKrn = newClient();
    await report(clientKrn, "a.csv");
    const view = new View();
    await watchUntil(progress, { clientKrn }, view, (seen) => seen.snapshotComplete, as);
    const first = (request: Watched) => progress.watchProgress(request, as)[Symbol.asyncIterator]().next();
    await assertFails(first({ cursor: view.cursor }), Code.InvalidArgument, "INVALID_CURSOR");
    await assertFails(first({ clientKrn, cursor: "forged" }), Code.InvalidArgument, "INVALID_CURSOR");
    await report(clientKrn, "a.csv");
    await report(clientKrn, "a.csv");
    await server.database.superuser.query(
      "update progress_feeds set pruned = sequence - 1 where tenant_id = $1",
      [server.tenant.tenantId],
    );
    const { metadata } = await assertFails(
      first({ clientKrn, cursor: view.cursor }),
      Code.OutOfRange,
      "CURSOR_EXPIRED",
    );
    const oldest = new View();
    oldest.versions.set(`${clientKrn} a.csv`, 2n);
    const request = { clientKrn, cursor: metadata.oldest_cursor ?? "" };
    await watchUntil(
      progress,
      request,
      oldest,
      ({ versions }) => versions.get(`${clientKrn} a.csv`) === 3n,
      as,
    );
  });

  /** A sink that a test reads by hand. */
  function openSink(stream: PushStream<WatchProgressResponse>) {
    const messages: WatchProgressResponse[] = [];
    let isFull = false;
    let drained = () => {};
    let ended: { error: unknown } | undefined;
    const sink: Sink<WatchProgressResponse> = {
      write(message) {
        messages.push(message);
        return !isFull;
      },
      end(error) {
        ended ??= { error };
      },
      onDrain(listener) {
        drained = listener;
      },
    };
    const stop = stream.start(sink);
    return {
      messages,
      stop,
      fill() {
        isFull = true;
      },
      drain() {
        isFull = false;
        drained();
      },
      get ended() {
        return ended;
      },
    };
  }

  const until = async (condition: () => boolean, timeoutMs = 15_000) => {
    for (const end = Date.now() + timeoutMs; !condition(); await sleep(5)) {
      assert.ok(Date.now() < end, "it did not come");
    }
  };

  test("all who watch the same are given the same message object", async () => {
    const clientKrn = newClient();
    const { progressFeeds } = server.context;
    const { tenantId } = server.tenant;
    const request = { clientKrn, filename: "a.csv" } as WatchProgressRequest;
    const sinks = Array.from({ length: 5 }, () => openSink(progressFeeds.watch(tenantId, request)));
    await until(() => sinks.every(({ messages }) => messages.length === 1));
    assert.equal(new Set(sinks.map(({ messages }) => messages[0])).size <= 2, true);
    await report(clientKrn, "a.csv");
    await until(() => sinks.every(({ messages }) => messages.length === 2));
    assert.equal(new Set(sinks.map(({ messages }) => messages[1])).size, 1);
    for (const { stop } of sinks) stop();
  });

  test("a slow reader holds nothing in memory, catches up, and is cut off when it takes nothing", async () => {
    const clientKrn = newClient();
    const { progressFeeds } = server.context;
    const { tenantId } = server.tenant;
    const request = { clientKrn, filename: "a.csv" } as WatchProgressRequest;
    const slow = openSink(progressFeeds.watch(tenantId, request));
    const stuck = openSink(progressFeeds.watch(tenantId, request));
    await until(() => slow.messages.length === 1 && stuck.messages.length === 1);
    slow.fill();
    stuck.fill();
    for (let turn = 0; turn < 30; turn++) await report(clientKrn, "a.csv");
    await sleep(100);
    // One more message went out after it was full, and none since.
    assert.equal(slow.messages.length, 2);
    slow.drain();
    await until(() => slow.messages.flatMap(({ deltas }) => deltas).length === 30);
    const view = new View();
    for (const message of slow.messages) view.take(message);
    await until(() => stuck.ended !== undefined);
    const error = ConnectError.from(stuck.ended?.error);
    assert.equal(error.code, Code.ResourceExhausted);
    assert.match(error.rawMessage, /too slowly/);
    assert.equal(slow.ended, undefined);
    // It can resume where it was.
    const resumed = new View();
    for (const message of stuck.messages) resumed.take(message);
    const wanted = ({ done }: View) => done.get(`${clientKrn} a.csv`) === 30n;
    await watchUntil(progress, request, resumed, wanted, as);
    slow.stop();
    stuck.stop();
  });

  test("a quiet stream is kept alive; a server that shuts down ends streams with DRAINING", async () => {
    const clientKrn = newClient();
    const third = await serve(server.database);
    using thirdSession = grpcSession(third.url);
    const service = createClient(ProgressService, thirdSession.transport);
    const messages: WatchProgressResponse[] = [];
    const ended = (async () => {
      for await (const message of service.watchProgress({ clientKrn }, as)) messages.push(message);
    })();
    ended.catch(() => {});
    await until(() => messages.length === 2, 20_000);
    assert.deepEqual(messages[1]?.deltas, []);
    assert.ok(messages[1]?.cursor);
    await third[Symbol.asyncDispose]();
    await assertFails(ended, Code.Unavailable, "DRAINING");
  });
});
