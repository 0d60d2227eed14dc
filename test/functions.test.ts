/** FunctionsService through the wire, with local processes in place of containers; `test/docker` has a real engine. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { withTenant } from "../server/src/db/tenant.ts";
import { appendLines, openSource, trimLog } from "../server/src/functions/logs/store.ts";
import type { Unit } from "../server/src/functions/runtime/runtime.ts";
import { createTenure, LeaseLost } from "../server/src/functions/worker/tenure.ts";
import { FunctionStatus } from "../server/src/gen/pulsewire/functions/v1/function_pb.js";
import { FunctionsService } from "../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { InvocationPhase } from "../server/src/gen/pulsewire/functions/v1/invocation_pb.js";
import { type LogLine, LogStream } from "../server/src/gen/pulsewire/functions/v1/log_pb.js";
import { takeLease } from "../server/src/jobs/lease.ts";
import { createTestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { keyEncryption, processRuntime, startFunctionServer } from "./helpers/function-server.ts";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, serve, type TestServer } from "./helpers/server.ts";

const shell = (script: string) => ["/bin/sh", "-c", script];
const forever = shell("echo up; while :; do sleep 0.1; done");

type Fns = Client<typeof FunctionsService>;

async function until<T>(what: string, look: () => Promise<T | false | undefined>): Promise<T> {
  for (const end = Date.now() + 30_000; ; ) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} did not happen`);
    await sleep(50);
  }
}

interface Setting extends AsyncDisposable {
  readonly server: TestServer;
  readonly fns: Fns;
}

async function open(runtime?: "process", settings = {}): Promise<Setting> {
  const server = await startFunctionServer({ ...(runtime && processRuntime), ...settings });
  const session = grpcSession(server.url, withKey(server.tenant.apiKey).headers);
  return {
    server,
    fns: createClient(FunctionsService, session.transport),
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await server.stop();
    },
  };
}

const untilStatus = (fns: Fns, name: string, status: FunctionStatus) =>
  until(`${name} is ${FunctionStatus[status]}`, async () => {
    const { function: found } = await fns.getFunction({ name });
    return found?.status === status && found;
  });

async function linesOf(fns: Fns, request: Parameters<Fns["streamLogs"]>[0]): Promise<string[]> {
  const lines: string[] = [];
  for await (const message of fns.streamLogs(request)) lines.push(...message.lines.map(({ text }) => text));
  return lines;
}

describe("what is wanted", () => {
  let setting: Setting;
  let fns: Fns;
  before(async () => {
    setting = await open(undefined, {
      PULSEWIRE_FUNCTIONS_REPLICAS: "10",
      PULSEWIRE_FUNCTIONS_QUEUE: "3",
      PULSEWIRE_TENANT_LIMITS: "functions=20",
    });
    fns = setting.fns;
  });
  after(() => setting[Symbol.asyncDispose]());

  test("without a runtime a function is accepted, and says what is missing", async () => {
    const { function: made } = await fns.createFunction({ name: "waiting", image: "nginx:alpine" });
    assert.equal(made?.status, FunctionStatus.PENDING);
    assert.match(made?.statusReason ?? "", /PULSEWIRE_FUNCTIONS_RUNTIME/);
    assert.equal(made?.replicas, 1);
    assert.equal(made?.namespace, `tenant-${setting.server.tenant.tenantId}`);
    assert.equal(made?.runtime, "");
    const { invocation } = await fns.invokeFunction({ name: "waiting" });
    assert.equal(invocation?.phase, InvocationPhase.PENDING);
    assert.match(invocation?.reason ?? "", /PULSEWIRE_FUNCTIONS_RUNTIME/);
    assert.match(invocation?.jobName ?? "", /^waiting-invoke-\d{10}$/);
  });

  test("an invocation that waits for its function into the next second takes no other's name", async () => {
    await using setting = await open();
    const { server, fns } = setting;
    await fns.createFunction({ name: "locked", image: "busybox", replicas: 0 });
    const holder = await server.database.superuser.connect();
    try {
      await sleep(950 - (Date.now() % 1_000) + (Date.now() % 1_000 > 900 ? 1_000 : 0));
      await holder.query("begin");
      await holder.query("select from functions where name = 'locked' for update");
      const waiting = fns.invokeFunction({ name: "locked" });
      await sleep(1_010 - (Date.now() % 1_000));
      await holder.query("commit");
      const names = [await waiting, await fns.invokeFunction({ name: "locked" })].map(
        ({ invocation }) => invocation?.jobName,
      );
      assert.equal(new Set(names).size, 2, names.join());
    } finally {
      holder.release();
    }
  });

  test("a name is taken until its function is deleted", async () => {
    const request = { name: "once", image: "a" };
    const { function: first } = await fns.createFunction(request);
    const { message } = await assertFails(fns.createFunction(request), Code.AlreadyExists, "ALREADY_EXISTS");
    assert.equal(message, `function 'once' already exists in namespace '${first?.namespace}'`);
    const { function: gone } = await fns.deleteFunction({ name: "once" });
    assert.equal(gone?.status, FunctionStatus.DELETED);
    assert.ok(gone?.deletedAt);
    await assertFails(fns.getFunction({ name: "once" }), Code.NotFound, "NOT_FOUND");
    const { function: second } = await fns.createFunction(request);
    assert.notEqual(second?.id, first?.id);
    const { functions: deleted } = await fns.listFunctions({
      statuses: [FunctionStatus.DELETED],
      namePrefix: "once",
    });
    assert.deepEqual(
      deleted.map(({ id }) => id),
      [first?.id],
    );
  });

  test("an update changes what its mask names, and makes a generation and an etag", async () => {
    const { function: made } = await fns.createFunction({
      name: "changing",
      image: "a",
      command: ["one"],
      env: { A: "1" },
      secretEnv: { B: "2", C: "3" },
    });
    const { function: next } = await fns.updateFunction({
      name: "changing",
      updateMask: { paths: ["replicas", "secret_env", "command"] },
      replicas: 0,
      image: "not-named",
      secretEnv: { B: "", D: "4" },
      etag: made?.etag ?? "",
    });
    assert.equal(next?.replicas, 0);
    assert.equal(next?.image, "a");
    assert.deepEqual(next?.command, []);
    assert.deepEqual(next?.env, { A: "1" });
    assert.deepEqual(next?.secretEnvNames, ["C", "D"]);
    assert.equal(next?.generation, 2n);
    assert.notEqual(next?.etag, made?.etag);
    const stale = { name: "changing", image: "b", etag: made?.etag ?? "" };
    await assertFails(fns.updateFunction(stale), Code.Aborted, "ETAG_MISMATCH");
    await assertFails(fns.updateFunction({ name: "changing" }), Code.InvalidArgument, "INVALID_FIELD");
    const clash = { name: "changing", env: { C: "now open" } };
    await assertFails(fns.updateFunction(clash), Code.InvalidArgument, "INVALID_FIELD");
  });

  test("secrets are sealed at rest and shown nowhere", async () => {
    const secret = "the-secret-of-this-test";
    const registryCredentials = { username: "someone", password: `${secret}-too` };
    const made = await fns.createFunction({
      name: "hiding",
      image: "a",
      secretEnv: { KEY: secret },
      registryCredentials,
    });
    const listed = await fns.listFunctions({});
    const text = JSON.stringify([made, listed], (_, value) =>
      typeof value === "bigint" ? String(value) : value,
    );
    assert.ok(text.includes("KEY") && !text.includes(secret));
    assert.equal(made.function?.hasRegistryCredentials, true);
    const { superuser } = setting.server.database;
    for (const table of ["functions", "function_templates", "audit_entries", "webhook_events"]) {
      const { rows } = await superuser.query(
        `select count(*)::int as n from ${table} t where t::text like $1`,
        [`%${secret}%`],
      );
      assert.equal(rows[0].n, 0, table);
    }
  });

  test("what a tenant may use is limited", async () => {
    const tooMany = { name: "greedy", image: "a", replicas: 11 };
    const { metadata } = await assertFails(
      fns.createFunction(tooMany),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(metadata.limit, "function_replicas");
    const limits = { memoryBytes: 2n ** 35n };
    const big = { name: "big", image: "a", limits, replicas: 2 };
    const memory = await assertFails(fns.createFunction(big), Code.ResourceExhausted, "TENANT_LIMIT");
    assert.equal(memory.metadata.limit, "function_memory");
    await fns.createFunction({ name: "queued", image: "a", replicas: 0 });
    await fns.invokeFunction({ name: "queued" });
    await fns.invokeFunction({ name: "queued" });
    const queue = await assertFails(
      fns.invokeFunction({ name: "queued" }),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    assert.equal(queue.metadata.limit, "function_queue");
  });

  test("lists come in pages by name, by token or by skipping", async () => {
    const names: string[] = [];
    let pageToken = "";
    do {
      const page = await fns.listFunctions({ pageSize: 2, pageToken });
      names.push(...page.functions.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(names, names.toSorted());
    assert.equal(new Set(names).size, names.length);
    const { functions } = await fns.listFunctions({ skip: 2, pageSize: 2 });
    assert.deepEqual(
      functions.map(({ name }) => name),
      names.slice(2, 4),
    );
  });

  test("callbacks to where only this machine gets are refused", async () => {
    for (const url of [
      "http://example.org/",
      "https://127.0.0.1/",
      "https://169.254.169.254/",
      "https://localhost/",
    ]) {
      const call = fns.invokeFunction({ name: "queued", callback: { url } });
      const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
      assert.deepEqual(fields, ["callback.url"]);
    }
  });
});

describe("with local processes", () => {
  let setting: Setting;
  let fns: Fns;
  before(async () => {
    setting = await open("process");
    fns = setting.fns;
  });
  after(() => setting[Symbol.asyncDispose]());

  test("a function runs, changes, and leaves its log when it is deleted", async () => {
    await fns.createFunction({ name: "runner", image: "none", replicas: 2, command: forever });
    const running = await untilStatus(fns, "runner", FunctionStatus.RUNNING);
    assert.equal(running.availableReplicas, 2);
    assert.equal(running.observedGeneration, running.generation);
    assert.equal(running.runtime, "process");
    await fns.updateFunction({ name: "runner", command: shell("echo again; while :; do sleep 0.1; done") });
    await until(
      "the new version",
      async () => (await linesOf(fns, { name: "runner" })).filter((text) => text === "again").length === 2,
    );
    await fns.deleteFunction({ name: "runner" });
    const lines = await linesOf(fns, { name: "runner", follow: true, tail: -1 });
    assert.deepEqual(lines.toSorted(), ["again", "again", "up", "up"]);
  });

  test("a function that cannot run says why", async () => {
    await fns.createFunction({ name: "broken", image: "none", command: shell("echo oh; exit 3") });
    const broken = await untilStatus(fns, "broken", FunctionStatus.FAILED);
    assert.match(broken.statusReason, /exit code 3/);
    await fns.createFunction({ name: "imageless", image: "nginx" });
    const imageless = await until("a reason", async () => {
      const { function: found } = await fns.getFunction({ name: "imageless" });
      return found?.status === FunctionStatus.FAILED && found;
    });
    assert.match(imageless.statusReason, /runs no images/);
    await fns.deleteFunction({ name: "broken" });
    await fns.deleteFunction({ name: "imageless" });
  });

  test("an invocation gets its input and gives its result, phase by phase", async () => {
    await fns.createFunction({
      name: "adder",
      image: "none",
      replicas: 0,
      command: shell('echo "got $PULSEWIRE_INPUT"; cat "$PULSEWIRE_INPUT_FILE" > "$PULSEWIRE_RESULT_FILE"'),
      secretEnv: { SECRET: "s" },
    });
    const input = {
      kind: {
        case: "structValue" as const,
        value: { fields: { a: { kind: { case: "numberValue" as const, value: 1 } } } },
      },
    };
    const { invocation } = await fns.invokeFunction({ name: "adder", input, wait: { seconds: 30n } });
    assert.equal(invocation?.phase, InvocationPhase.SUCCEEDED, invocation?.reason ?? "");
    assert.deepEqual(invocation?.result, invocation?.input);
    assert.equal(invocation?.exitCode, 0);
    assert.equal(invocation?.attempts.length, 1);
    assert.ok(invocation?.startedAt && invocation.finishedAt && invocation.durations?.total);
    assert.deepEqual(await linesOf(fns, { invocationId: invocation?.id ?? "", follow: true }), [
      'got {"a":1}',
    ]);
    const { done } = await fns.waitInvocation({ invocationId: invocation?.id ?? "" });
    assert.equal(done, true);
    const { invocations } = await fns.listInvocations({ functionName: "adder" });
    assert.equal(invocations.length, 1);
    assert.equal(invocations[0]?.result, undefined);
  });

  test("the last line is the result where no file was written; a failure is tried again", async () => {
    const command = shell('echo first; echo "attempt $PULSEWIRE_ATTEMPT"; test "$PULSEWIRE_ATTEMPT" = 2');
    await fns.createFunction({ name: "flaky", image: "none", replicas: 0, command });
    const retryPolicy = { maxAttempts: 3, initialBackoff: { nanos: 100_000_000 } };
    const { invocation } = await fns.invokeFunction({ name: "flaky", retryPolicy, wait: { seconds: 30n } });
    assert.equal(invocation?.phase, InvocationPhase.SUCCEEDED, invocation?.reason ?? "");
    assert.deepEqual(invocation?.result?.kind, { case: "stringValue", value: "attempt 2" });
    assert.deepEqual(
      invocation?.attempts.map(({ phase, exitCode }) => [phase, exitCode]),
      [
        [InvocationPhase.FAILED, 1],
        [InvocationPhase.SUCCEEDED, 0],
      ],
    );
    const once = await fns.invokeFunction({ name: "flaky", wait: { seconds: 30n } });
    assert.equal(once.invocation?.phase, InvocationPhase.FAILED);
    assert.match(once.invocation?.reason ?? "", /exit code 1/);
    const { rows } = await setting.server.database.superuser.query(
      "select data from webhook_events where type = 'function.failed' and data->>'invocation_id' = $1",
      [once.invocation?.id],
    );
    assert.equal(rows.length, 1);
  });

  test("a run that takes too long is ended, and one that is cancelled", async () => {
    const command = shell("trap 'exit 0' TERM; while :; do sleep 0.1; done");
    await fns.createFunction({ name: "slow", image: "none", replicas: 0, command });
    const late = await fns.invokeFunction({ name: "slow", timeout: { seconds: 1n }, wait: { seconds: 30n } });
    assert.equal(late.invocation?.phase, InvocationPhase.TIMED_OUT, late.invocation?.reason ?? "");
    const { invocation } = await fns.invokeFunction({ name: "slow" });
    const invocationId = invocation?.id ?? "";
    await until(
      "the run",
      async () => (await fns.getInvocation({ invocationId })).invocation?.phase === InvocationPhase.RUNNING,
    );
    const cancelled = await fns.cancelInvocation({ invocationId, reason: "enough" });
    assert.equal(cancelled.invocation?.phase, InvocationPhase.CANCELLED);
    assert.match(cancelled.invocation?.reason ?? "", /enough/);
    await fns.cancelInvocation({ invocationId });
    const lateId = late.invocation?.id ?? "";
    await assertFails(
      fns.cancelInvocation({ invocationId: lateId }),
      Code.FailedPrecondition,
      "FAILED_PRECONDITION",
    );
    await until("the end of its process", async () => {
      const { rows } = await setting.server.database.superuser.query(
        "select due_at from invocations where id = $1",
        [invocationId],
      );
      return rows[0].due_at === null;
    });
  });

  test("a log that grows is followed line by line, from wherever a reader comes in", async () => {
    const count = 20_000;
    const command = shell(`seq 1 ${count}`);
    await fns.createFunction({ name: "counter", image: "none", replicas: 0, command });
    const { invocation } = await fns.invokeFunction({ name: "counter" });
    const invocationId = invocation?.id ?? "";
    const readers = Array.from({ length: 4 }, async () => {
      let cursor = "";
      let seen = 0;
      // Every reader comes back after some messages, with its cursor.
      for (let messages = 0; seen < count; ) {
        for await (const message of fns.streamLogs({ invocationId, follow: true, tail: -1, cursor })) {
          for (const { text } of message.lines) assert.equal(text, String(++seen));
          cursor = message.cursor;
          if (++messages % 7 === 0) break;
        }
      }
      return seen;
    });
    assert.deepEqual(await Promise.all(readers), [count, count, count, count]);
  });

  test("logs: the last lines, since a time, by stream, from a cursor", async () => {
    const command = shell("for i in 1 2 3 4 5; do echo out $i; echo err $i >&2; sleep 0.05; done");
    await fns.createFunction({ name: "speaker", image: "none", replicas: 0, command });
    const { invocation } = await fns.invokeFunction({ name: "speaker", wait: { seconds: 30n } });
    const invocationId = invocation?.id ?? "";
    const all = await linesOf(fns, { invocationId, follow: true, tail: -1 });
    assert.equal(all.length, 10);
    assert.deepEqual(await linesOf(fns, { name: "speaker", tail: 3 }), all.slice(-3));
    assert.deepEqual(await linesOf(fns, { name: "speaker", tail: 0 }), []);
    const stderr = await linesOf(fns, { name: "speaker", stream: LogStream.STDERR, tail: 2 });
    assert.deepEqual(stderr, ["err 4", "err 5"]);
    let cursor = "";
    const middle = await until("the third line", async () => {
      // The lines may come in several messages; the last one's cursor is behind them all.
      const lines: LogLine[] = [];
      for await (const message of fns.streamLogs({ name: "speaker", tail: -1 })) {
        cursor = message.cursor;
        lines.push(...message.lines);
      }
      return lines[4];
    });
    assert.deepEqual(await linesOf(fns, { name: "speaker", cursor }), []);
    const since = middle.time as NonNullable<typeof middle.time>;
    const later = await linesOf(fns, { name: "speaker", since });
    assert.ok(later.length >= 6 && later.length < 10, String(later));
    await assertFails(
      linesOf(fns, { name: "speaker", stream: LogStream.STDOUT, cursor }),
      Code.InvalidArgument,
      "INVALID_CURSOR",
    );
    await assertFails(linesOf(fns, { name: "nothing" }), Code.NotFound, "NOT_FOUND");
  });
});

describe("several workers", () => {
  test("one drives at a time; another goes on when it has gone, and nothing runs twice", async (t) => {
    await using setting = await open("process");
    const { server, fns } = setting;
    const second = await serve(server.database, {
      PULSEWIRE_DATA_DIR: server.context.config.dataDir,
      ...keyEncryption,
      ...processRuntime,
      PULSEWIRE_ROLE: "worker",
    });
    let isOpen = true;
    t.after(async () => {
      if (isOpen) await second[Symbol.asyncDispose]();
    });
    await fns.createFunction({ name: "single", image: "none", replicas: 2, command: forever });
    await untilStatus(fns, "single", FunctionStatus.RUNNING);
    const leases = "select fence::int, holder from leases where name = 'functions'";
    const before = (await server.database.superuser.query(leases)).rows[0];
    const command = shell("sleep 1; echo $PULSEWIRE_ATTEMPT");
    await fns.createFunction({ name: "job", image: "none", replicas: 0, command });
    const calls = Array.from({ length: 5 }, () => fns.invokeFunction({ name: "job" }));
    const ids = (await Promise.all(calls)).map(({ invocation }) => invocation?.id ?? "");
    // As if the holder had gone: another may take over at once, and its transactions are refused from then on.
    await server.database.superuser.query("update leases set expires_at = now() where name = 'functions'");
    await second[Symbol.asyncDispose]();
    isOpen = false;
    for (const invocationId of ids) {
      const { invocation } = await until("the end", async () => {
        const answer = await fns.waitInvocation({ invocationId });
        return answer.done && answer;
      });
      assert.equal(invocation?.phase, InvocationPhase.SUCCEEDED, invocation?.reason ?? "");
      assert.equal(invocation?.attempts.length, 1);
      assert.deepEqual(await linesOf(fns, { invocationId, follow: true, tail: -1 }), ["1"]);
    }
    const after = (await server.database.superuser.query(leases)).rows[0];
    assert.ok(after.fence >= before.fence);
    assert.equal((await untilStatus(fns, "single", FunctionStatus.RUNNING)).availableReplicas, 2);
    assert.equal((await linesOf(fns, { name: "single" })).length, 2, "no third container was made");
  });

  test("what is written with a lost lease is not written", async () => {
    await using database = await createTestDatabase();
    const db = database.app.db;
    const lease = await takeLease(db, "functions", "one", 60_000);
    assert.ok(lease);
    let ended = false;
    const tenure = createTenure(db, lease, new AbortController().signal, () => {
      ended = true;
    });
    await tenure.write(async () => {});
    await database.superuser.query("update leases set expires_at = now()");
    await takeLease(db, "functions", "two", 60_000);
    await assert.rejects(
      tenure.write(async () => {}),
      LeaseLost,
    );
    assert.equal(ended, true);
  });
});

describe("retention of logs", () => {
  test("by size: the oldest lines go, and a cursor before them says so", async () => {
    await using setting = await open("process", { PULSEWIRE_FUNCTIONS_LOG_BYTES: String(1024 * 1024) });
    const { fns, server } = setting;
    const { function: fn } = await fns.createFunction({
      name: "old",
      image: "none",
      replicas: 0,
      command: shell("echo 1"),
    });
    const { tenantId } = server.tenant;
    const unit = {
      tenantId,
      functionId: fn?.id ?? "",
      id: "u",
      replica: "old-1",
      invocationId: undefined,
      attempt: 0,
    } as Unit;
    const line = (text: string) =>
      ({ time: `${Date.now()}000000`, stream: 1, text, continues: false }) as const;
    await withTenant(server.context.db, tenantId, async (trx) => {
      await openSource(trx, unit);
      // Random, so that it cannot be compressed away.
      for (let chunk = 0; chunk < 4; chunk++) {
        const lines = Array.from({ length: 10 }, () => line(randomBytes(30_000).toString("base64")));
        await appendLines(trx, unit, lines, chunk);
      }
    });
    let first = "";
    for await (const { cursor } of fns.streamLogs({ name: "old", tail: -1 })) first ||= cursor;
    await withTenant(server.context.db, tenantId, (trx) =>
      trimLog(trx, tenantId, unit.functionId, { maxAgeMs: 60_000, maxBytes: 700_000 }),
    );
    const kept: bigint[] = [];
    for await (const { lines } of fns.streamLogs({ name: "old", tail: -1 }))
      kept.push(...lines.map(({ number }) => number));
    assert.ok(kept.length > 0 && kept.length < 40, String(kept.length));
    assert.equal(kept.at(-1), 40n, "numbers stay as they are");
    await assertFails(linesOf(fns, { name: "old", cursor: first }), Code.OutOfRange, "CURSOR_EXPIRED");
    await withTenant(server.context.db, tenantId, (trx) =>
      trimLog(trx, tenantId, unit.functionId, { maxAgeMs: -1_000, maxBytes: 700_000 }),
    );
    assert.deepEqual(await linesOf(fns, { name: "old", tail: -1 }), []);
    const { rows } = await server.database.superuser.query(
      "select bytes::int from function_logs where function_id = $1",
      [fn?.id],
    );
    assert.equal(rows[0].bytes, 0);
  });
});
