import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http2";
import type { AddressInfo } from "node:net";
import { describe, type TestContext, test } from "node:test";
import {
  createClient,
  createGateway,
  type DropNotice,
  type NodeGatewayOptions,
  type RetryNotice,
} from "../sdk/src/index.ts";
import { startTestServer } from "./helpers/server.ts";
import { Sink } from "./helpers/sink.ts";

const retry = { initialDelayMs: 20, maxDelayMs: 100 };

async function setUp(t: TestContext, options: Partial<NodeGatewayOptions> = {}) {
  const sink = new Sink();
  const endpoint = await sink.start();
  const drops: DropNotice[] = [];
  const retries: RetryNotice[] = [];
  const gateway = createGateway({
    endpoint,
    retry,
    onDrop: (drop) => drops.push(drop),
    onRetry: (notice) => retries.push(notice),
    ...options,
  });
  t.after(async () => {
    await gateway.close({ deadlineMs: 0 });
    await sink[Symbol.asyncDispose]();
  });
  return { sink, gateway, drops, retries };
}

/** Ids that arrive of 1 to 20, of which every fifth has priority 9, through a queue for 10. */
async function through(t: TestContext, whenFull: NodeGatewayOptions["whenFull"]) {
  const { sink, gateway, drops } = await setUp(t, {
    ...(whenFull && { whenFull }),
    queue: { maxItems: 10 },
  });
  for (let id = 1; id <= 20; id++) {
    gateway.event({ eventId: `${id}`, eventType: "x", priority: id % 5 === 0 ? 9 : 1 });
  }
  const counts = await gateway.flush();
  assert.equal(counts.queued, 20);
  assert.deepEqual(counts.dropped, { queue_full: 10 });
  assert.equal(counts.accepted, 10);
  assert.deepEqual(drops[0], {
    type: "event",
    reason: "queue_full",
    count: 1,
    message: "The queue was full.",
  });
  assert.equal(drops.length, 10);
  return [...sink.events.keys()].map(Number).sort((a, b) => a - b);
}

describe("full queue", () => {
  test("drop-newest keeps what came first", async (t) => {
    assert.deepEqual(await through(t, "drop-newest"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  });

  test("drop-oldest keeps what came last", async (t) => {
    assert.deepEqual(await through(t, "drop-oldest"), [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  });

  test("drop-lowest-priority keeps what is urgent, and of the rest what came last", async (t) => {
    assert.deepEqual(await through(t, "drop-lowest-priority"), [5, 10, 13, 14, 15, 16, 17, 18, 19, 20]);
  });

  test("by bytes: large ones make room too; what is being sent is not dropped", async (t) => {
    const { sink, gateway } = await setUp(t, {
      whenFull: "drop-oldest",
      batch: { maxItems: 1 },
      maxInFlight: 1,
      queue: { maxBytes: 10_000 },
    });
    sink.faults.push("unavailable for 150 ms");
    gateway.event({ eventId: "sent", eventType: "x" });
    while (gateway.counts.retried === 0 && sink.calls.length === 0) await new Promise(setImmediate);
    for (let id = 0; id < 10; id++)
      gateway.event({ eventId: `${id}`, eventType: "x", message: "m".repeat(4000) });
    const { queued, accepted, dropped } = await gateway.flush();
    assert.deepEqual([queued, accepted, dropped], [11, 3, { queue_full: 8 }]);
    assert.deepEqual([...sink.events.keys()], ["sent", "8", "9"]);
  });

  test("a promise tells of each event", async (t) => {
    const { sink, gateway } = await setUp(t, { whenFull: "drop-newest", queue: { maxItems: 3 } });
    const outcomes = Promise.all(
      ["a", "broken", "a", "over"].map((id) => gateway.eventOutcome({ eventId: id, eventType: id })),
    );
    await gateway.flush();
    assert.deepEqual(
      (await outcomes).map(({ status }) => status),
      ["accepted", "rejected", "duplicate", "dropped"],
    );
    await sink.server?.stop();
    const left = gateway.eventOutcome({ eventType: "x" });
    await gateway.close({ deadlineMs: 50 });
    assert.equal((await left).status, "dropped");
    await assert.rejects(gateway.eventOutcome({ eventType: "x" }), { name: "GatewayClosedError" });
  });

  test("drops are told of without a listener: a warning of the process, one a reason", async (t) => {
    const warned: Error[] = [];
    const listener = (warning: Error) => warned.push(warning);
    process.on("warning", listener);
    t.after(() => process.off("warning", listener));
    const sink = new Sink();
    const endpoint = await sink.start();
    t.after(() => sink[Symbol.asyncDispose]());
    await using gateway = createGateway({ endpoint, whenFull: "drop-newest", queue: { maxItems: 5 } });
    for (let index = 0; index < 100; index++) gateway.event({ eventType: "x" });
    await new Promise(setImmediate);
    assert.equal(warned.length, 1);
    assert.match(warned[0]?.message ?? "", /dropped 1 .*event: queue_full/);
  });
});

describe("breaker", () => {
  test("all kinds share it: after a failure a single call probes", async (t) => {
    const { sink, gateway, retries } = await setUp(t, { batch: { maxItems: 10 }, maxInFlight: 4 });
    await sink.server?.stop();
    for (let index = 0; index < 100; index++) {
      gateway.event({ eventType: "x" });
      gateway.metric("cpu", index);
    }
    const flushed = gateway.flush();
    while (retries.length < 12) await new Promise((resolve) => setTimeout(resolve, 10));
    // Those that were under way together are one failure; from the second on there is one call at a time.
    const rounds = Map.groupBy(retries, ({ failures }) => failures);
    for (const [failures, calls] of rounds) if (failures > 1) assert.equal(calls.length, 1);
    await sink.start();
    const counts = await flushed;
    assert.equal(counts.accepted, 200);
  });

  test("a quota of samples does not hold up events", async (t) => {
    const { sink, gateway } = await setUp(t, { batch: { maxDelayMs: 10 } });
    sink.faults.push("quota");
    gateway.metric("cpu", 1);
    void gateway.flush();
    while (sink.calls.length === 0) await new Promise(setImmediate);
    const outcome = await gateway.eventOutcome({ eventType: "x" });
    assert.equal(outcome.status, "accepted");
    assert.equal(gateway.counts.samples.pending, 1);
  });

  test("after an outage the batches come at a pace that grows", async (t) => {
    const { sink, gateway } = await setUp(t, { batch: { maxItems: 10 }, pace: { rampMs: 100 } });
    await sink.server?.stop();
    for (let index = 0; index < 300; index++) gateway.event({ eventType: "x" });
    const flushed = gateway.flush();
    // A twentieth of it, at most `rampMs`, is the first gap.
    await new Promise((resolve) => setTimeout(resolve, 2200));
    await sink.start();
    await flushed;
    const gaps = sink.times.slice(1).map((time, index) => time - (sink.times[index] ?? 0));
    const early = gaps.slice(0, 3).reduce((sum, gap) => sum + gap, 0);
    const late = gaps.slice(-3).reduce((sum, gap) => sum + gap, 0);
    assert.ok(early > 60 && late < early / 2, `${gaps.map(Math.round)}`);
  });
});

// Each waits for seconds: side by side.
describe("Retry-After", { concurrency: true }, () => {
  for (const [name, retryAfter, leastMs] of [
    ["seconds", () => "1", 1000],
    // A date has whole seconds: at least one of the two is left.
    ["a date", () => new Date(Date.now() + 2000).toUTCString(), 1000],
  ] as const) {
    for (const status of [429, 503]) {
      test(`a proxy's ${status} with Retry-After in ${name} is heeded`, async (t) => {
        const times: number[] = [];
        const server = createServer((_request, response) => {
          times.push(performance.now());
          response.writeHead(status, { "retry-after": retryAfter() }).end();
        });
        server.listen(0, "127.0.0.1");
        await once(server, "listening");
        const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
        const gateway = createGateway({ endpoint, retry, onDrop() {} });
        t.after(async () => {
          await gateway.close({ deadlineMs: 0 });
          server.close();
        });
        gateway.event({ eventType: "x" });
        await gateway.flush({ deadlineMs: leastMs + 1700 });
        assert.ok(times.length >= 2, `${times.length} calls`);
        assert.ok((times[1] ?? 0) - (times[0] ?? 0) >= leastMs * 0.95, `${times}`);
      });
    }
  }
});

test("progress on the real server: each report counts once, and what completes a file comes last", async (t) => {
  const real = await startTestServer();
  t.after(() => real.stop());
  await using gateway = createGateway({ endpoint: real.url, apiKey: real.tenant.apiKey, retry });
  const file = { clientKrn: `krn:${real.tenant.slug}:client:till`, filename: "orders.csv" };
  for (let index = 0; index < 200; index++) gateway.progress({ ...file, done: 2, failed: 1, total: 600 });
  gateway.progress({ ...file, updateId: "same", warn: 5, errors: [{ line: 3, message: "no price" }] });
  gateway.progress({ ...file, isLast: true });
  gateway.progress({ ...file, clientKrn: "krn:somebody:client:till", done: 1 });
  const { progress } = await gateway.flush();
  assert.deepEqual([progress.accepted, progress.rejected], [202, 1]);
  gateway.progress({ ...file, updateId: "same", warn: 5, errors: [{ line: 3, message: "no price" }] });
  assert.equal((await gateway.flush()).progress.duplicate, 1);
  using client = createClient({ endpoint: real.url, apiKey: real.tenant.apiKey });
  const stored = (await client.progress.getProgress(file)).progress;
  assert.deepEqual(
    [stored?.counts?.done, stored?.counts?.warn, stored?.counts?.failed, stored?.isCompleted],
    [400n, 5n, 200n, true],
  );
});
