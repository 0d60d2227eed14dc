/** FunctionsService through the wire, with local processes in place of containers; `test/docker` has a real engine. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { withTenant } from "../server/src/db/tenant.ts";
import { appendLines, openSource, trimLog } from "../server/src/functions/logs/store.ts";
import type { Unit } from "../server/src/functions/runtime/runtime.ts";
import { createTenure, LeaseLost } from "../server/src/functions/worker/tenure.ts";
import { FunctionStatus } from "../server/src/gen/pulsewire/functions/v1/function_pb.js";
import { InvocationPhase } from "../server/src/gen/pulsewire/functions/v1/invocation_pb.js";
import { type LogLine, LogStream } from "../server/src/gen/pulsewire/functions/v1/log_pb.js";
import { takeLease } from "../server/src/jobs/lease.ts";
import { createTestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { keyEncryption, processRuntime } from "./helpers/function-server.ts";
import {
  type Fns,
  type FunctionsSetting,
  forever,
  linesOf,
  openFunctions,
  shell,
  until,
  untilStatus,
} from "./helpers/functions.ts";
import { serve } from "./helpers/server.ts";

describe("with local processes", () => {
  let setting: FunctionsSetting;
  let fns: Fns;
  before(async () => {
    setting = await openFunctions("process");
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
    await using setting = await openFunctions("process");
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
    await using setting = await openFunctions("process", {
      PULSEWIRE_FUNCTIONS_LOG_BYTES: String(1024 * 1024),
    });
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
