/** What every runtime does: the same cases for local processes, Docker and Kubernetes. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import {
  CannotStart,
  type ContainerSpec,
  type LogBatch,
  type RawLine,
  type Runtime,
  type Unit,
} from "../../server/src/functions/runtime/runtime.ts";

export interface RuntimeUnderTest extends AsyncDisposable {
  readonly runtime: Runtime;
  /** Another of the same kind that belongs to another installation. */
  readonly foreign: Runtime;
  readonly image: string;
  /** Ends a container behind the runtime's back, as a person or an accident does. */
  kill(unit: Unit): Promise<void>;
  /** How long a step of the runtime may take to show, milliseconds. */
  readonly patienceMs: number;
  /** What the runtime cannot do by its nature. */
  readonly lacks?: readonly ("stderr" | "unknown image")[];
}

export function describeRuntime(name: string, open: () => Promise<RuntimeUnderTest>): void {
  describe(`runtime contract: ${name}`, () => {
    let own: RuntimeUnderTest;
    let runtime: Runtime;
    const functions: ContainerSpec[] = [];
    before(async () => {
      own = await open();
      runtime = own.runtime;
    });
    after(async () => {
      for (const spec of functions) await removeAll(spec);
      await runtime.close();
      await own.foreign.close();
      await own[Symbol.asyncDispose]();
    });

    const specOf = (script: string, changes: Partial<ContainerSpec> = {}): ContainerSpec => {
      const tenantId = randomUUID();
      const spec = {
        tenantId,
        functionId: randomUUID(),
        functionName: "sample",
        namespace: `tenant-${tenantId}`,
        template: 1,
        image: own.image,
        command: ["/bin/sh", "-c", script],
        invocationCommand: [],
        env: { GREETING: "hello" },
        registry: undefined,
        cpuMillicores: 500,
        memoryBytes: 67_108_864n,
        ...changes,
      };
      functions.push(spec);
      return spec;
    };
    const forever = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done";
    const standing = { replicas: 1, warmPoolSize: 0, notBefore: undefined };

    const unitsOf = async ({ functionId }: ContainerSpec, from = runtime) =>
      (await from.list()).filter((unit) => unit.functionId === functionId);

    async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
      for (const end = Date.now() + own.patienceMs; ; ) {
        const found = await look();
        if (found) return found;
        assert.ok(Date.now() < end, `${what} did not happen in ${own.patienceMs} ms`);
        await sleep(50);
      }
    }

    const apply = async (spec: ContainerSpec, changes: Partial<typeof standing> = {}) =>
      runtime.apply({ ...spec, ...standing, ...changes }, await unitsOf(spec));

    const untilAvailable = (spec: ContainerSpec, replicas: number) =>
      until(`${replicas} replicas of template ${spec.template}`, async () => {
        const found = await apply(spec, { replicas });
        return found.available === replicas && found.outdated === 0 && found;
      });

    async function removeAll(spec: ContainerSpec): Promise<void> {
      await until("the end of all containers", async () => {
        const units = await unitsOf(spec);
        const retired = await runtime.retire(spec.functionId, spec.namespace, units);
        for (const unit of units)
          if (unit.state === "ended" || unit.kind === "run") await runtime.remove(unit);
        return retired && (await unitsOf(spec)).length === 0;
      });
    }

    async function logOf(
      unit: Unit,
      position?: JsonValue,
      most = Number.POSITIVE_INFINITY,
    ): Promise<{ lines: RawLine[]; position: JsonValue | undefined }> {
      const lines: RawLine[] = [];
      let reached = position;
      const stop = new AbortController();
      try {
        for await (const batch of runtime.readLog(unit, position, stop.signal) as AsyncIterable<LogBatch>) {
          lines.push(...batch.lines);
          reached = batch.position;
          if (lines.length >= most) break;
        }
      } finally {
        stop.abort();
      }
      return { lines, position: reached };
    }

    const runOf = (spec: ContainerSpec, input?: string) => ({
      ...spec,
      jobName: `${spec.functionName}-invoke-${spec.functionId.slice(0, 8)}-${++runs}`,
      invocationId: randomUUID(),
      attempt: 1,
      input,
      timeoutMs: 60_000,
    });
    /** As the server does: a runtime that makes wait is asked again. */
    const startRun = (run: ReturnType<typeof runOf>): Promise<Unit> =>
      until("the start of a run", () =>
        runtime.startRun(run).catch((error: unknown) => {
          if (error instanceof CannotStart && error.wait) return undefined;
          throw error;
        }),
      );
    let runs = 0;
    const never = new AbortController().signal;

    test("replicas come to be, are told apart, and are healed when one is killed", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 2);
      const units = (await unitsOf(spec)).filter(({ state }) => state === "running");
      assert.equal(units.length, 2);
      assert.equal(new Set(units.map(({ replica }) => replica)).size, 2);
      for (const unit of units) {
        assert.equal(unit.kind, "replica");
        assert.equal(unit.tenantId, spec.tenantId);
        assert.equal(unit.template, 1);
        assert.ok(unit.startedAt);
      }
      const victim = units[0] as Unit;
      await own.kill(victim);
      await until("a failure", async () => (await apply(spec, { replicas: 2 })).available < 2);
      await untilAvailable(spec, 2);
      const healed = (await unitsOf(spec)).filter(({ state }) => state === "running");
      assert.equal(healed.length, 2);
      assert.ok(healed.every(({ id }) => id !== victim.id));
    });

    test("applying what is there changes nothing", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 2);
      const before = (await unitsOf(spec)).map(({ id }) => id).sort();
      await Promise.all([apply(spec, { replicas: 2 }), apply(spec, { replicas: 2 })]);
      assert.deepEqual((await unitsOf(spec)).map(({ id }) => id).sort(), before);
    });

    test("fewer replicas stop the surplus, none stops all", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 2);
      for (const replicas of [1, 0]) {
        await apply(spec, { replicas });
        await until(`${replicas} running`, async () => {
          await apply(spec, { replicas });
          return (await unitsOf(spec)).filter(({ state }) => state === "running").length === replicas;
        });
      }
    });

    test("a new template replaces replicas one by one, and some always serve", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 2);
      const next = { ...spec, template: 2, env: { GREETING: "again" } };
      let least = 2;
      await until("the new version", async () => {
        const found = await apply(next, { replicas: 2 });
        least = Math.min(least, found.available + found.outdated);
        return found.available === 2 && found.outdated === 0;
      });
      assert.ok(least >= 1, "at no time was there none");
      await until("the end of the old version", async () => {
        const running = (await unitsOf(spec)).filter(({ state }) => state === "running");
        return running.length === 2 && running.every(({ template }) => template === 2);
      });
    });

    test("a container that fails is told with its exit code, and not restarted before its time", async () => {
      const spec = specOf("echo no; exit 3");
      await apply(spec);
      const found = await until("the failure", async () => {
        const now = await apply(spec, { notBefore: new Date(Date.now() + 60_000) as never });
        return now.newFailures > 0 && now;
      });
      assert.match(found.reason, /3/);
      assert.equal(found.available, 0);
    });

    test("a run gets its input, and gives its result, exit code and output", async () => {
      const spec = specOf("never", {
        invocationCommand: [
          "/bin/sh",
          "-c",
          'echo "$GREETING $PULSEWIRE_INPUT"; echo "$PULSEWIRE_ATTEMPT" >&2; cat "$PULSEWIRE_INPUT_FILE" > "$PULSEWIRE_RESULT_FILE"',
        ],
      });
      const run = runOf(spec, '{"a":1}');
      const unit = await startRun(run);
      assert.equal(unit.kind, "run");
      assert.equal(unit.invocationId, run.invocationId);
      assert.equal((await startRun(run)).id, unit.id, "starting it again finds the first");
      const end = await runtime.waitRun(unit, never);
      assert.equal(end.exitCode, 0);
      assert.ok(end.startedAt && end.endedAt >= end.startedAt);
      const result = await runtime.readResult(unit);
      assert.equal(result?.bytes.toString(), '{"a":1}');
      const { lines } = await logOf(unit);
      const texts = (stream: number) =>
        lines.filter((line) => line.stream === stream).map(({ text }) => text);
      if (own.lacks?.includes("stderr"))
        assert.deepEqual(lines.map(({ text }) => text).sort(), ["1", 'hello {"a":1}']);
      else {
        assert.deepEqual(texts(1), ['hello {"a":1}']);
        assert.deepEqual(texts(2), ["1"]);
      }
      await runtime.remove(unit);
      await until("the removal", async () => (await unitsOf(spec)).length === 0);
    });

    test("a run that fails tells its exit code, and has no result where it wrote none", async () => {
      const spec = specOf("exit 7");
      const unit = await startRun(runOf(spec));
      const end = await runtime.waitRun(unit, never);
      assert.equal(end.exitCode, 7);
      assert.match(end.reason, /7/);
      assert.equal((await runtime.readResult(unit))?.bytes.length ?? 0, 0);
    });

    test("a run can be stopped, and says so by its signal", async () => {
      const unit = await startRun(runOf(specOf("trap 'exit 143' TERM; while :; do sleep 0.1; done")));
      await sleep(500);
      await runtime.stop(unit);
      assert.equal((await runtime.waitRun(unit, never)).exitCode, 143);
    });

    test("waiting for a run ends with the signal", async () => {
      const unit = await startRun(runOf(specOf(forever)));
      const stop = new AbortController();
      const waiting = runtime.waitRun(unit, stop.signal);
      setTimeout(() => stop.abort(), 200);
      await assert.rejects(waiting);
      await runtime.remove(unit);
    });

    test("a log is read on from any position: no line is missing, none is there twice", async () => {
      const count = 20_000;
      const unit = await startRun(runOf(specOf(`seq 1 ${count}`)));
      const all: string[] = [];
      let position: JsonValue | undefined;
      for (let most = 1; all.length < count; most *= 3) {
        const part = await logOf(unit, position, most);
        all.push(...part.lines.map(({ text }) => text));
        position = part.position;
        assert.ok(part.lines.length > 0, `the log went on after ${all.length} lines`);
      }
      assert.deepEqual(
        all,
        Array.from({ length: count }, (_, index) => String(index + 1)),
      );
      assert.deepEqual((await logOf(unit, position)).lines, [], "and then nothing more");
    });

    test("long lines are cut and go on; bytes that are no UTF-8 are replaced; the last line needs no end", async () => {
      const script =
        "head -c 150000 /dev/zero | tr '\\0' x; echo; printf 'bad \\377 byte\\n'; printf 'no end'";
      const unit = await startRun(runOf(specOf(script)));
      const { lines } = await logOf(unit);
      const texts: string[] = [];
      let open = "";
      for (const { text, continues } of lines) {
        assert.ok(Buffer.byteLength(text) <= 65_536);
        open += text;
        if (continues) continue;
        texts.push(open);
        open = "";
      }
      assert.deepEqual(
        texts.map((text) => (text.length > 100 ? text.length : text)),
        [150_000, "bad \ufffd byte", "no end"],
      );
    });

    test("times grow, and are those of now", async () => {
      const started = BigInt(Date.now() - 5_000) * 1_000_000n;
      const unit = await startRun(runOf(specOf("for i in 1 2 3; do echo $i; sleep 0.05; done")));
      const times = (await logOf(unit)).lines.map(({ time }) => BigInt(time));
      assert.equal(times.length, 3);
      assert.deepEqual(
        times,
        times.toSorted((a, b) => (a < b ? -1 : 1)),
      );
      for (const time of times) assert.ok(time > started && time < BigInt(Date.now() + 5_000) * 1_000_000n);
    });

    test("what another installation made is not seen", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 1);
      assert.equal((await unitsOf(spec, own.foreign)).length, 0);
      assert.equal((await unitsOf(spec)).length, 1);
    });

    test("changes are told", async () => {
      const stop = new AbortController();
      const heard = new Set<string | undefined>();
      const watching = runtime.watch((functionId) => heard.add(functionId), stop.signal);
      try {
        await until("the beginning of the watch", async () => heard.size > 0);
        heard.clear();
        const spec = specOf("true");
        await startRun(runOf(spec));
        await until("a change", async () => heard.has(spec.functionId) || heard.has(undefined));
      } finally {
        stop.abort();
        await watching.catch(() => {});
      }
    });

    test("a command that is not there is a reason, and no error", async () => {
      const spec = specOf("", { command: ["/no/such/command"] });
      try {
        const end = await runtime.waitRun(await startRun(runOf(spec)), never);
        assert.equal(end.exitCode, 127);
      } catch (error) {
        assert.ok(error instanceof CannotStart, String(error));
        assert.match(error.message, /no such/i);
      }
    });

    test("an image that is not there is a reason", { skip: false }, async (t) => {
      if (own.lacks?.includes("unknown image")) return t.skip("this runtime has no images");
      const spec = specOf("true", { image: "registry.invalid/no/such:image" });
      const found = await until("the reason", async () => {
        const now = await apply(spec);
        return now.reason !== "" && !/being fetched/.test(now.reason) && now;
      });
      assert.match(found.reason, /image/);
      assert.equal(found.available, 0);
    });

    test("retiring stops all; removing leaves nothing", async () => {
      const spec = specOf(forever);
      await untilAvailable(spec, 2);
      await removeAll(spec);
      assert.equal((await unitsOf(spec)).length, 0);
    });
  });
}
