import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  createClient,
  createGateway,
  type GatewayOptions,
  type ItemSettled,
  MetricKind,
  type PulsewireError,
  type RetryNotice,
  Severity,
  sleep,
} from "../sdk/src/index.ts";
import { createGateway as createWebGateway } from "../sdk/src/web.ts";
import { startProxy } from "./helpers/proxy.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";
import { type Fault, Sink } from "./helpers/sink.ts";

const retry = { initialDelayMs: 20, maxDelayMs: 100 };

async function setUp(t: TestContext, options: GatewayOptions = {}) {
  const sink = new Sink();
  const endpoint = await sink.start();
  const settled: ItemSettled[] = [];
  const retries: RetryNotice[] = [];
  const gateway = createGateway({
    endpoint,
    apiKey: "evp_x",
    retry,
    onOutcome: (outcome) => settled.push(outcome),
    onRetry: (notice) => retries.push(notice),
    ...options,
  });
  t.after(async () => {
    await gateway.close({ deadlineMs: 0 });
    await sink[Symbol.asyncDispose]();
  });
  return { sink, gateway, settled, retries, endpoint };
}

describe("events", () => {
  test("go in batches, with all fields, id and time of taking", async (t) => {
    const { sink, gateway } = await setUp(t);
    const before = Date.now();
    gateway.event({ eventType: "plain" });
    gateway.event({
      eventId: "full-1",
      eventType: "full",
      title: "Title",
      message: "Message",
      severity: "warning",
      source: { service: "shop", method: "POST" },
      context: { ip: "10.0.0.1" },
      metrics: { took_ms: 1.5 },
      metadata: { tags: ["a"] },
      payload: { at: new Date(0), nothing: undefined, deep: { list: [1, null] } },
      userId: "u1",
      sessionId: "s1",
      timestamp: new Date("2026-01-02T03:04:05.678Z"),
      priority: 7,
    });
    for (let index = 0; index < 998; index++) gateway.event({ eventType: "many" });
    const counts = await gateway.flush();
    assert.deepEqual(sink.calls, [500, 500]);
    assert.equal(counts.accepted, 1000);
    assert.equal(counts.events.queued, 1000);
    assert.equal(counts.samples.queued, 0);

    const [plain] = sink.events.values();
    assert.match(plain?.eventId ?? "", /^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    assert.ok(Number(plain?.timestamp?.seconds) * 1000 >= before - 1000);
    const full = sink.events.get("full-1");
    assert.equal(full?.severity, Severity.WARNING);
    assert.equal(full?.source?.service, "shop");
    assert.deepEqual(full?.context, { ip: "10.0.0.1" });
    assert.deepEqual(full?.metrics, { took_ms: 1.5 });
    assert.deepEqual(full?.payload, { at: "1970-01-01T00:00:00.000Z", deep: { list: [1, null] } });
    assert.deepEqual(full?.timestamp?.nanos, 678_000_000);
    assert.equal(full?.priority, 7);
  });

  test("are what they were when they were queued", async (t) => {
    const { sink, gateway } = await setUp(t);
    const payload = { step: 1 };
    gateway.event({ eventId: "a", eventType: "x", payload });
    payload.step = 2;
    await gateway.flush();
    assert.deepEqual(sink.events.get("a")?.payload, { step: 1 });
  });

  test("that cannot be encoded are refused where they are made", async (t) => {
    const { gateway } = await setUp(t);
    const loop: Record<string, unknown> = {};
    loop.self = loop;
    assert.throws(() => gateway.event({ eventType: "x", payload: loop }), TypeError);
    assert.throws(() => gateway.event({ eventType: "x", priority: 1.5 }));
    assert.equal(gateway.counts.queued, 0);
  });

  test("one that is broken is rejected alone", async (t) => {
    const { gateway, settled } = await setUp(t);
    gateway.event({ eventId: "good", eventType: "x" });
    gateway.event({ eventId: "bad", eventType: "broken" });
    const counts = await gateway.flush();
    assert.deepEqual([counts.accepted, counts.rejected], [1, 1]);
    assert.deepEqual(settled[1], {
      type: "event",
      eventId: "bad",
      status: "rejected",
      field: "event_type",
      code: "test",
      message: "broken",
    });
  });

  test("same id: duplicate, or conflict with another body", async (t) => {
    const { gateway } = await setUp(t);
    gateway.event({ eventId: "a", eventType: "x", payload: { n: 1 } });
    gateway.event({ eventId: "a", eventType: "x", payload: { n: 1 } });
    gateway.event({ eventId: "a", eventType: "x", payload: { n: 2 } });
    const { accepted, duplicate, conflict } = await gateway.flush();
    assert.deepEqual([accepted, duplicate, conflict], [1, 1, 1]);
  });
});

describe("samples", () => {
  test("go packed: one entry a series, exact times and values", async (t) => {
    const { sink, gateway } = await setUp(t, { storeId: "0190a8f0-0000-7000-8000-000000000000" });
    const start = Date.parse("2026-01-02T03:04:05.000Z");
    for (let index = 0; index < 100; index++) {
      gateway.metric("cpu", index / 2, {
        labels: { core: "0", host: "a" },
        unit: "percent",
        timestamp: start + index,
      });
      gateway.metric("cpu", index, {
        labels: { host: "a", core: "1" },
        unit: "percent",
        timestamp: start - index,
      });
    }
    gateway.metric("requests", 5, { kind: "counter" });
    await gateway.flush();
    assert.equal(sink.series.length, 3);
    const [first, second, third] = sink.series;
    assert.deepEqual(first?.labels, { core: "0", host: "a" });
    assert.equal(first?.values.length, 100);
    assert.deepEqual(first?.offsetsMs.slice(0, 3), [0, 1, 2]);
    assert.deepEqual(second?.offsetsMs.slice(0, 2), [99, 98]);
    assert.equal(Number(second?.baseTime?.seconds), Math.floor((start - 99) / 1000));
    assert.equal(third?.kind, MetricKind.COUNTER);
  });

  test("a time far off does not share an entry with good ones", async (t) => {
    const { sink, gateway } = await setUp(t);
    gateway.metric("cpu", 1);
    gateway.metric("cpu", 2, { timestamp: 0 });
    await gateway.flush();
    assert.deepEqual(
      sink.series.map(({ values }) => values),
      [[1], [2]],
    );
  });

  test("values that are not finite and broken series are rejected alone", async (t) => {
    const { gateway, settled } = await setUp(t);
    gateway.metric("cpu", Number.NaN);
    gateway.metric("cpu", 1);
    gateway.metric("broken", 1);
    gateway.metric("broken", 2);
    const counts = await gateway.flush();
    assert.deepEqual([counts.accepted, counts.rejected, counts.queued], [1, 3, 4]);
    assert.equal(settled[0]?.code, "double.finite");
  });
});

describe("faults", () => {
  test("answer lost after the commit: sent again, reported as duplicates, stored once", async (t) => {
    const { sink, gateway } = await setUp(t, { batch: { maxItems: 100 } });
    sink.faults.push("lose answer");
    for (let index = 0; index < 100; index++) gateway.event({ eventType: "x", payload: { index } });
    const counts = await gateway.flush();
    assert.deepEqual([counts.accepted, counts.duplicate, counts.retried], [0, 100, 100]);
    assert.equal(sink.events.size, 100);
  });

  test("server away, then back: everything arrives once, with few calls", async (t) => {
    const { sink, gateway, retries } = await setUp(t, { batch: { maxItems: 50 } });
    await sink.server?.stop();
    for (let index = 0; index < 500; index++) gateway.event({ eventType: "x", payload: { index } });
    const flushed = gateway.flush();
    await sleep(400);
    assert.equal(gateway.counts.pending, 500);
    await sink.start();
    const counts = await flushed;
    assert.equal(counts.accepted, 500);
    assert.equal(sink.events.size, 500);
    assert.ok(retries.length < 40, `${retries.length} failed calls`);
    assert.ok(retries.every(({ error }) => error.code === Code.Unavailable));
  });

  test("the server's delay is kept", async (t) => {
    const { sink, gateway, retries } = await setUp(t);
    sink.faults.push("unavailable for 150 ms", "unavailable");
    const start = performance.now();
    gateway.event({ eventType: "x" });
    const counts = await gateway.flush();
    assert.ok(performance.now() - start >= 150);
    assert.equal(counts.accepted, 1);
    assert.deepEqual(
      retries.map(({ failures }) => failures),
      [1, 2],
    );
  });

  test("only the items the server asks for are sent again", async (t) => {
    const { sink, gateway } = await setUp(t);
    sink.faults.push("retry odd items");
    for (let index = 0; index < 10; index++) gateway.event({ eventType: "x" });
    const counts = await gateway.flush();
    assert.deepEqual(sink.calls, [10, 5]);
    assert.deepEqual([counts.accepted, counts.duplicate, counts.retried], [10, 0, 5]);
  });

  test("no answer: the deadline of the call ends it and it is made again", async (t) => {
    const { sink, gateway } = await setUp(t, { timeoutMs: 500 });
    sink.faults.push("hang");
    gateway.event({ eventType: "x" });
    gateway.metric("cpu", 1);
    const counts = await gateway.flush();
    assert.equal(counts.accepted, 2);
    assert.equal(counts.retried, 1);
  });

  test("a wrong key is not tried again, and tells why items were dropped", async (t) => {
    const { sink, gateway } = await setUp(t);
    sink.faults.push("bad key");
    gateway.event({ eventType: "x" });
    const counts = await gateway.flush();
    assert.deepEqual(counts.dropped, { INVALID_API_KEY: 1 });
    assert.deepEqual(sink.calls, [1]);
  });

  test("a burst in one synchronous loop is taken whole at defaults", async (t) => {
    const { gateway } = await setUp(t);
    for (let index = 0; index < 30_000; index++) gateway.event({ eventType: "burst", payload: { index } });
    const counts = await gateway.flush();
    assert.deepEqual([counts.queued, counts.accepted], [30_000, 30_000]);
  });

  test("with `wait` a producer is held to the queue's bound", async (t) => {
    const { gateway } = await setUp(t, {
      whenFull: "wait",
      queue: { maxItems: 200 },
      batch: { maxItems: 50 },
    });
    let most = 0;
    for (let index = 0; index < 2000; index++) {
      await gateway.event({ eventType: "x" });
      most = Math.max(most, gateway.counts.pending);
    }
    assert.equal(most, 200);
    assert.equal((await gateway.flush()).accepted, 2000);
  });

  test("flush and close end at their deadlines; the counts are exact", async (t) => {
    const { sink, gateway } = await setUp(t, { batch: { maxItems: 10 } });
    sink.faults.push("hang", "hang", "hang");
    for (let index = 0; index < 25; index++) gateway.event({ eventType: "x" });
    gateway.metric("cpu", 1);
    const flushed = await gateway.flush({ deadlineMs: 100 });
    assert.equal(flushed.queued, 26);
    assert.ok(flushed.pending >= 20);
    const start = performance.now();
    const counts = await gateway.close({ deadlineMs: 100 });
    assert.ok(performance.now() - start < 1000);
    assert.equal(counts.pending, 0);
    const { accepted, dropped } = counts;
    assert.equal(accepted + (dropped.closed ?? 0), 26);
    assert.throws(() => gateway.event({ eventType: "x" }), { name: "GatewayClosedError" });
  });

  test("a hook that throws stops nothing", async () => {
    const { code, stderr, stdout } = await run(`
      process.on("uncaughtException", ({ message }) => console.log("uncaught:", message));
      const gateway = createGateway({ endpoint: ENDPOINT, onOutcome() { throw new Error("mine"); } });
      gateway.event({ eventType: "x" });
      console.log((await gateway.close()).accepted);
    `);
    assert.equal(stdout, "uncaught: mine\n1\n", stderr);
    assert.equal(code, 0);
  });

  test("in browsers over Connect and HTTP/1.1", async () => {
    await using sink = new Sink();
    const endpoint = await sink.start({ http1: true });
    await using gateway = createWebGateway({ endpoint, apiKey: "evp_x", retry });
    sink.faults.push("unavailable");
    gateway.event({ eventType: "x" });
    gateway.metric("cpu", 1);
    assert.equal((await gateway.flush()).accepted, 2);
  });
});

/** Runs a program in a process of its own against a sink. */
async function run(program: string, faults: Fault[] = []) {
  await using sink = new Sink();
  const endpoint = await sink.start();
  sink.faults.push(...faults);
  const sdk = JSON.stringify(new URL("../sdk/src/index.ts", import.meta.url).href);
  const source = `
    import { createGateway, createClient } from ${sdk};
    const ENDPOINT = ${JSON.stringify(endpoint)};
    ${program}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source]);
  const killer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, "close");
  clearTimeout(killer);
  return { code, stdout, stderr, stored: sink.events.size };
}

describe("process", () => {
  test("ends by itself after close()", async () => {
    const { code, stdout, stderr } = await run(`
      const gateway = createGateway({ endpoint: ENDPOINT });
      gateway.event({ eventType: "x" });
      await gateway.close();
      const closed = performance.now();
      process.on("exit", () => console.log(performance.now() - closed < 500));
    `);
    assert.equal(stdout, "true\n", stderr);
    assert.equal(code, 0);
  });

  test("does not end before a flush is done, although nothing but back-off holds it", async () => {
    const { stdout, stderr, stored } = await run(
      `
      const gateway = createGateway({ endpoint: ENDPOINT });
      gateway.event({ eventType: "x" });
      gateway.flush().then(({ accepted }) => console.log("flushed", accepted));
    `,
      ["unavailable for 150 ms", "unavailable for 150 ms"],
    );
    assert.equal(stdout, "flushed 1\n", stderr);
    assert.equal(stored, 1);
  });

  test("without close() what is queued still goes out", async () => {
    const { code, stored } = await run(`createGateway({ endpoint: ENDPOINT }).event({ eventType: "x" });`);
    assert.equal(code, 0);
    assert.equal(stored, 1);
  });

  test("without close() an outage does not hold it", async () => {
    const { code, stdout, stored } = await run(
      `
      const gateway = createGateway({ endpoint: ENDPOINT, onRetry: () => console.log("retry") });
      gateway.event({ eventType: "x" });
    `,
      Array.from({ length: 100 }, () => "unavailable for 150 ms" as const),
    );
    assert.equal(code, 0);
    assert.equal(stdout, "retry\n");
    assert.equal(stored, 0);
  });

  test("await using flushes", async () => {
    const { stored, stderr } = await run(`
      await using gateway = createGateway({ endpoint: ENDPOINT });
      gateway.event({ eventType: "x" });
    `);
    assert.equal(stored, 1, stderr);
  });
});

describe("on the real server", () => {
  let real: TestServer;
  let storeId: string;
  before(async () => {
    real = await startTestServer();
    using client = createClient({ endpoint: real.url, apiKey: real.tenant.apiKey });
    storeId = (await client.metrics.createStore({ name: "gateway" })).store?.id ?? "";
  });
  after(() => real?.stop());

  /** What is stored, by event type. */
  async function countStored(type: string): Promise<number> {
    using client = createClient({ endpoint: real.url, apiKey: real.tenant.apiKey });
    let count = 0;
    for (let pageToken = ""; ; ) {
      const page = await client.ingestion.listEvents({
        filter: { eventTypes: [type] },
        pageSize: 1000,
        pageToken,
      });
      count += page.events.length;
      pageToken = page.nextPageToken;
      if (!pageToken) return count;
    }
  }
  const open = (options: GatewayOptions & { endpoint?: string } = {}) =>
    createGateway({ endpoint: real.url, apiKey: real.tenant.apiKey, storeId, retry, ...options });

  for (const protocol of ["grpc", "connect", "grpc-web"] as const) {
    test(`${protocol}: events and samples are stored as they were sent; a second run is all duplicates`, async () => {
      const type = `round-trip-${protocol}`;
      const start = Date.now() - 60_000;
      for (const expected of ["accepted", "duplicate"] as const) {
        await using gateway = createGateway({
          endpoint: real.url,
          apiKey: real.tenant.apiKey,
          storeId,
          protocol,
        });
        for (let index = 0; index < 1200; index++) {
          gateway.event({
            eventId: `${type}-${index}`,
            eventType: type,
            timestamp: start + index,
            payload: { index, at: new Date(start) },
          });
        }
        for (let index = 0; index < 300; index++) {
          const options = { labels: { protocol }, unit: "percent", timestamp: start + index * 10 };
          gateway.metric("cpu", index, options);
        }
        const { events, samples } = await gateway.flush();
        assert.deepEqual([events.queued, events[expected]], [1200, 1200]);
        assert.equal(samples.accepted, 300);
      }
      assert.equal(await countStored(type), 1200);
      using client = createClient({ endpoint: real.url, apiKey: real.tenant.apiKey, protocol });
      const { event } = await client.ingestion.getEvent({ eventId: `${type}-7` });
      assert.deepEqual(event?.event?.payload, { index: 7, at: new Date(start).toISOString() });
      const { series } = await client.metrics.querySamples({ storeId, name: "cpu", labels: { protocol } });
      assert.equal(series.length, 1);
      assert.equal(series[0]?.unit, "percent");
      assert.deepEqual(
        series[0]?.timestampsMs,
        Array.from({ length: 300 }, (_, index) => start + index * 10),
      );
    });
  }

  test("each item has its own outcome", async () => {
    await using gateway = open();
    const timestamp = Date.now();
    gateway.event({ eventId: "one", eventType: "outcome", timestamp });
    gateway.event({ eventType: "" });
    gateway.metric("cpu", 1);
    gateway.metric("no name", 1);
    await gateway.flush();
    gateway.event({ eventId: "one", eventType: "outcome", timestamp });
    gateway.event({ eventId: "one", eventType: "outcome", timestamp, title: "another" });
    const { events, samples } = await gateway.flush();
    assert.deepEqual([events.accepted, events.duplicate, events.conflict, events.rejected], [1, 1, 1, 1]);
    assert.deepEqual([samples.accepted, samples.rejected], [1, 1]);
  });

  test("answers lost after the commit: reported as duplicates, stored once", async () => {
    await using proxy = await startProxy(real.url);
    await using gateway = open({ endpoint: proxy.url, batch: { maxItems: 100 } });
    gateway.event({ eventType: "lost" });
    await gateway.flush();
    proxy.loseAnswers(500);
    for (let index = 0; index < 200; index++) gateway.event({ eventType: "lost", payload: { index } });
    const { events } = await gateway.flush();
    assert.deepEqual([events.queued, events.accepted, events.duplicate], [201, 1, 200]);
    assert.equal(await countStored("lost"), 201);
  });

  test("line down, then up: everything arrives once", async () => {
    await using proxy = await startProxy(real.url);
    await using gateway = open({ endpoint: proxy.url, batch: { maxItems: 100, maxDelayMs: 20 } });
    for (let index = 0; index < 2000; index++) {
      if (index === 500) await proxy.down();
      if (index === 1500) await proxy.up();
      if (index % 100 === 0) await sleep(20);
      gateway.event({ eventType: "line", payload: { index } });
    }
    const { events } = await gateway.flush();
    assert.equal(events.accepted + events.duplicate, 2000);
    assert.equal(await countStored("line"), 2000);
  });

  test("a wrong key and a wrong password are told by reason", async () => {
    using stranger = createClient({ endpoint: real.url, apiKey: "evp_wrong" });
    await assert.rejects(stranger.metrics.listStores({}), { reason: "INVALID_API_KEY" });
    using nobody = createClient({ endpoint: real.url });
    await assert.rejects(nobody.metrics.listStores({}), { reason: "MISSING_CREDENTIALS" });
    const { email, password, slug: tenantSlug } = real.tenant;
    using wrong = createClient({ endpoint: real.url, login: { email, password: "wrong", tenantSlug } });
    await assert.rejects(wrong.metrics.listStores({}), { reason: "INVALID_LOGIN" });
    using right = createClient({ endpoint: real.url, login: { email, password, tenantSlug } });
    assert.equal((await right.metrics.listStores({})).stores[0]?.name, "gateway");
    await assert.rejects(
      right.metrics.createStore({ name: "" }),
      ({ code, reason, violations }: PulsewireError) => {
        assert.deepEqual([code, reason], [Code.InvalidArgument, "INVALID_FIELD"]);
        assert.equal(violations[0]?.field, "name");
        return true;
      },
    );
  });
});
