import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  createClient,
  createGateway,
  type DeliveryCounts,
  type NodeGatewayOptions,
  type SpoolOptions,
  sleep,
} from "../sdk/src/index.ts";
import { startProxy } from "./helpers/proxy.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";
import { Sink } from "./helpers/sink.ts";

const retry = { initialDelayMs: 20, maxDelayMs: 100 };

function folder(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), "pulsewire-gateway-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A sink, and gateways on one spool. */
async function setUp(t: TestContext) {
  const directory = folder(t);
  const sink = new Sink();
  const endpoint = await sink.start();
  t.after(() => sink[Symbol.asyncDispose]());
  const open = (options: Partial<NodeGatewayOptions> = {}, spool: Partial<SpoolOptions> = {}) => {
    const gateway = createGateway({
      endpoint,
      apiKey: "evp_x",
      retry,
      ...options,
      spool: { directory, sync: "none", ...spool },
    });
    t.after(() => gateway.close({ deadlineMs: 0 }));
    return gateway;
  };
  return { directory, sink, endpoint, open };
}

/** Checks the promise of the counts, and that none is negative. */
function assertExact(counts: DeliveryCounts): void {
  const { queued, accepted, duplicate, conflict, rejected, pending, persisted } = counts;
  const dropped = Object.values(counts.dropped).reduce((sum, count) => sum + count, 0);
  assert.equal(queued, accepted + duplicate + conflict + rejected + dropped + pending + persisted);
  assert.ok(pending >= 0 && persisted >= 0);
}

/** Runs a program that may make gateways, until it ends or is killed. */
async function run(options: NodeGatewayOptions, program: string, before = "") {
  const source = `
    import { createGateway } from ${JSON.stringify(new URL("../sdk/src/index.ts", import.meta.url).href)};
    const open = (more) => createGateway({ ...${JSON.stringify(options)}, ...more });
    ${program}`;
  const command = `${before} exec "$0" --input-type=module --eval "$1"`;
  const child = spawn("bash", ["-c", command, process.execPath, source]);
  const killer = setTimeout(() => child.kill("SIGKILL"), 30_000);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code, signal] = await once(child, "close");
  clearTimeout(killer);
  return { code, signal, stdout, stderr };
}

describe("restart", () => {
  test("close() with the server away leaves all in the spool; the next gateway sends it with the same ids", async (t) => {
    const { directory, sink, open } = await setUp(t);
    await sink.server?.stop();
    const first = open();
    for (let index = 0; index < 2000; index++) first.event({ eventId: `e${index}`, eventType: "x" });
    first.metric("cpu", 1, { labels: { core: "0" }, unit: "percent", timestamp: 1_700_000_000_000 });
    first.metric("cpu", Number.NaN);
    const left = await first.close({ deadlineMs: 100 });
    assertExact(left);
    assert.deepEqual([left.queued, left.persisted, left.pending, left.rejected], [2002, 2001, 0, 1]);
    assert.deepEqual(left.dropped, {});

    await sink.start();
    // One at a time: several under way may arrive in any order.
    const second = open({ maxInFlight: 1 });
    assert.deepEqual([second.counts.queued, second.counts.persisted], [2001, 2001]);
    const counts = await second.flush();
    assertExact(counts);
    assert.deepEqual([counts.accepted, counts.persisted, counts.pending], [2001, 0, 0]);
    assert.deepEqual(
      [...sink.events.keys()],
      Array.from({ length: 2000 }, (_, index) => `e${index}`),
    );
    assert.deepEqual(sink.series[0]?.labels, { core: "0" });
    assert.equal(Number(sink.series[0]?.baseTime?.seconds), 1_700_000_000);
    await second.close();
    assert.deepEqual(readdirSync(directory), []);
  });

  test("far more than fits the window in memory: exact, while more comes", async (t) => {
    const { sink, open } = await setUp(t);
    await sink.server?.stop();
    const gateway = open();
    for (let index = 0; index < 30_000; index++) gateway.event({ eventId: `e${index}`, eventType: "x" });
    assert.equal(gateway.counts.queued, 30_000);
    assert.ok(gateway.counts.pending < 128);
    await sink.start();
    for (let index = 30_000; index < 31_000; index++) {
      gateway.event({ eventId: `e${index}`, eventType: "x" });
      if (index % 10 === 0) await sleep(1);
      assertExact(gateway.counts);
    }
    const counts = await gateway.flush();
    assertExact(counts);
    assert.deepEqual([counts.accepted, counts.duplicate, counts.queued], [31_000, 0, 31_000]);
    assert.equal(sink.events.size, 31_000);
  });

  test("high priority goes first when the server is back", async (t) => {
    const { sink, open } = await setUp(t);
    await sink.server?.stop();
    const first = open();
    for (let index = 0; index < 8000; index++) {
      first.event({ eventId: `e${index}`, eventType: "x", priority: index >= 7900 ? 10 : 1 });
    }
    await first.close({ deadlineMs: 0 });
    await sink.start();
    const second = open({ maxInFlight: 1 });
    await second.flush();
    const order = [...sink.events.keys()];
    assert.deepEqual(
      order.slice(0, 100),
      Array.from({ length: 100 }, (_, index) => `e${7900 + index}`),
    );
    assert.equal(order.length, 8000);
  });

  test("a wrong key drops nothing: the spool can wait until it is right", async (t) => {
    const { sink, open } = await setUp(t);
    const codes: Code[] = [];
    const gateway = open({ onRetry: ({ error }) => codes.push(error.code) });
    sink.faults.push("bad key", "bad key");
    gateway.event({ eventType: "x" });
    const counts = await gateway.flush();
    assert.deepEqual([counts.accepted, counts.dropped], [1, {}]);
    assert.deepEqual(codes, [Code.Unauthenticated, Code.Unauthenticated]);
  });

  test("a damaged record is counted, and the others are sent", async (t) => {
    const { directory, sink, open } = await setUp(t);
    await sink.server?.stop();
    const first = open();
    for (let index = 0; index < 100; index++) first.event({ eventType: "x" });
    await first.close({ deadlineMs: 0 });
    const [name] = readdirSync(directory).filter((file) => file.endsWith(".log"));
    const path = join(directory, name ?? "");
    const log = readFileSync(path);
    log.writeUInt8(log.readUInt8(5000) ^ 1, 5000);
    writeFileSync(path, log);
    await sink.start();
    const counts = await open().flush();
    assertExact(counts);
    assert.deepEqual([counts.queued, counts.accepted, counts.dropped], [100, 99, { spool_damaged: 1 }]);
  });

  test("the spool's bound drops the oldest, counted; flush() still ends", async (t) => {
    const { sink, open } = await setUp(t);
    await sink.server?.stop();
    const gateway = open({}, { maxBytes: 1 << 20 });
    const title = "t".repeat(100);
    for (let index = 0; index < 60_000; index++) gateway.event({ eventType: "x", title });
    const flushed = gateway.flush();
    assert.ok((gateway.counts.dropped.spool_full ?? 0) > 5000);
    assertExact(gateway.counts);
    await sink.start();
    const counts = await flushed;
    assertExact(counts);
    assert.equal(counts.accepted + (counts.dropped.spool_full ?? 0), 60_000);
    assert.equal(sink.events.size, counts.accepted);
  });

  test("two gateways cannot have one spool; await using gives it back", async (t) => {
    const { sink, open } = await setUp(t);
    {
      await using gateway = open({}, { sync: "always" });
      gateway.event({ eventType: "x" });
      assert.throws(() => open(), { name: "SpoolLockedError" });
      assert.equal(gateway.counts.pending, 1);
      await new Promise(setImmediate);
      assert.deepEqual([gateway.counts.pending, gateway.counts.persisted], [0, 1]);
    }
    assert.equal(sink.events.size, 1);
    const errors: Error[] = [];
    const again = open(
      {},
      { sync: "interval", syncIntervalMs: 1, maxBytes: 1 << 20, onError: (error) => errors.push(error) },
    );
    for (let index = 0; index < 2000; index++) again.event({ eventType: "x" });
    await sleep(20);
    assert.equal((await again.close()).accepted, 2000);
    assert.deepEqual(errors, []);
  });
});

describe("full disk", () => {
  test("it goes on in memory: all is delivered, the counts are exact", async (t) => {
    const { directory, sink, endpoint } = await setUp(t);
    const { stdout, stderr } = await run(
      { endpoint, retry, spool: { directory, sync: "none" } },
      `
      const gateway = open();
      for (let index = 0; index < 20_000; index++) gateway.event({ eventType: "x", payload: { index } });
      console.log(JSON.stringify(await gateway.close()));`,
      "ulimit -f 256;",
    );
    assert.ok(stdout, stderr);
    const counts = JSON.parse(stdout) as DeliveryCounts;
    assertExact(counts);
    assert.deepEqual([counts.accepted, counts.dropped, counts.retried], [20_000, {}, 0]);
    assert.equal(sink.events.size, 20_000);
  });

  test("with the server away too: what was written stays, the rest is dropped at close, told apart", async (t) => {
    const { directory, sink, endpoint, open } = await setUp(t);
    await sink.server?.stop();
    const { stdout, stderr } = await run(
      { endpoint, retry, spool: { directory, sync: "none" } },
      `
      const gateway = open();
      for (let index = 0; index < 20_000; index++) gateway.event({ eventType: "x", payload: { index } });
      console.log(JSON.stringify(await gateway.close({ deadlineMs: 200 })));`,
      "ulimit -f 256;",
    );
    assert.ok(stdout, stderr);
    const counts = JSON.parse(stdout) as DeliveryCounts;
    assertExact(counts);
    assert.equal(counts.persisted + (counts.dropped.closed ?? 0), 20_000);
    assert.ok(counts.persisted > 500 && (counts.dropped.closed ?? 0) > 500);
    await sink.start();
    assert.equal((await open().flush()).accepted, counts.persisted);
  });
});

describe("SIGKILL, on the real server", () => {
  let real: TestServer;
  before(async () => {
    real = await startTestServer();
  });
  after(() => real?.stop());

  /** Ids of what is stored, by event type. */
  async function storedIds(type: string): Promise<string[]> {
    using client = createClient({ endpoint: real.url, apiKey: real.tenant.apiKey });
    const ids: string[] = [];
    for (let pageToken = ""; ; ) {
      const filter = { eventTypes: [type] };
      const page = await client.ingestion.listEvents({ filter, pageSize: 1000, pageToken });
      ids.push(...page.events.map(({ event }) => event?.eventId ?? ""));
      pageToken = page.nextPageToken;
      if (!pageToken) return ids;
    }
  }

  test("10,000 queued: all but the last write arrive after the restart, none twice", async (t) => {
    const directory = folder(t);
    await using proxy = await startProxy(real.url);
    await proxy.down();
    const options = { endpoint: proxy.url, apiKey: real.tenant.apiKey, retry, spool: { directory } };
    const { signal, code, stderr } = await run(
      options,
      `
      const gateway = open();
      for (let index = 0; index < 10_000; index++) {
        gateway.event({ eventId: "k" + index, eventType: "killed", payload: { index } });
      }
      process.kill(process.pid, "SIGKILL");`,
    );
    assert.equal(signal, "SIGKILL", `${code} ${stderr}`);
    await proxy.up();
    await using gateway = createGateway(options);
    const counts = await gateway.flush();
    assertExact(counts);
    const ids = await storedIds("killed");
    t.diagnostic(`${ids.length} of 10000 stored, ${counts.accepted} accepted`);
    assert.ok(ids.length >= 10_000 - 128);
    assert.equal(new Set(ids).size, ids.length);
    assert.equal(counts.accepted, ids.length);
    // Those that are missing are the last.
    for (let index = 0; index < ids.length; index++) assert.ok(ids.includes(`k${index}`) || index >= 9872);
  });

  test("again and again in the middle of sending: what was written is stored once", async (t) => {
    const directory = folder(t);
    const options = {
      endpoint: real.url,
      apiKey: real.tenant.apiKey,
      retry,
      batch: { maxItems: 100 },
      spool: { directory, sync: "always" as const },
    };
    const rounds = 5;
    for (let round = 0; round < rounds; round++) {
      const { signal, code, stderr } = await run(
        options,
        `
        const gateway = open();
        for (let index = 0; index < 2000; index++) {
          gateway.event({ eventId: "r${round}-" + index, eventType: "restless", payload: { index } });
        }
        // Written within this turn.
        await new Promise(setImmediate);
        setTimeout(() => process.kill(process.pid, "SIGKILL"), ${Math.floor(Math.random() * 120)});`,
      );
      assert.equal(signal, "SIGKILL", `${code} ${stderr}`);
    }
    await using gateway = createGateway(options);
    const counts = await gateway.flush();
    assertExact(counts);
    const ids = await storedIds("restless");
    t.diagnostic(`left for the last gateway: ${counts.queued}, of these stored already: ${counts.duplicate}`);
    assert.deepEqual([counts.conflict, counts.rejected, counts.dropped], [0, 0, {}]);
    assert.equal(counts.accepted + counts.duplicate, counts.queued);
    const written = Array.from({ length: rounds * 2000 }, (_, n) => `r${Math.floor(n / 2000)}-${n % 2000}`);
    const missing = new Set(written).difference(new Set(ids));
    // Which they are says where they were lost: with the last write, with a batch, or between two pages of the list.
    assert.deepEqual([...missing], []);
    assert.equal(ids.length, written.length);
  });
});
