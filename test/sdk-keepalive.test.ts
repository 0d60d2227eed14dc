/** Connections of the SDK that fall silent, and those that nobody uses: found by pings, and closed. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import http2, { type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, describe, mock, test } from "node:test";
import { type BreakNotice, Code, createClient, createGateway, follow, sleep } from "../sdk/src/index.ts";
import { watch } from "../sdk/src/node-options.ts";
import { Http2Connection } from "../sdk/src/unary/http2-connection.ts";
import { startProxy } from "./helpers/proxy.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";

/** Short enough for a test, long enough for a machine that is busy; the deadline of a call is 10 s. */
const brief = { pingIntervalMs: 400, pingTimeoutMs: 400 };
/** When it must have been found at the latest, with as much again for a machine that is busy. */
const foundMs = 2 * (brief.pingIntervalMs + brief.pingTimeoutMs) + 1_000;
const usual = { ...watch };

test("a connection is asked after 20 s without a sign of life, and given up after 10 s more", () => {
  assert.deepEqual(usual, { pingIntervalMs: 20_000, pingTimeoutMs: 10_000 });
});

describe("a line that falls silent", { concurrency: true }, () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer();
    Object.assign(watch, brief);
  });
  after(async () => {
    Object.assign(watch, usual);
    await server.stop();
  });

  async function start() {
    const proxy = await startProxy(server.url);
    const options = { endpoint: proxy.url, apiKey: server.tenant.apiKey };
    return { proxy, options };
  }

  for (const protocol of ["grpc", "connect", "grpc-web"] as const) {
    test(`under a call of a gateway, ${protocol}: what was under way goes over a new one, once`, async () => {
      const { proxy, options } = await start();
      await using _proxy = proxy;
      await using gateway = createGateway({
        ...options,
        protocol,
        batch: { maxDelayMs: 10 },
        retry: { initialDelayMs: 20, maxDelayMs: 100 },
      });
      const eventType = `silent_${protocol.replace("-", "_")}`;
      assert.equal((await gateway.eventOutcome({ eventType })).status, "accepted");
      proxy.goSilent();
      const silentAt = performance.now();
      const { status } = await gateway.eventOutcome({ eventType });
      const took = performance.now() - silentAt;
      assert.equal(status, "accepted");
      assert.ok(took > brief.pingTimeoutMs && took < foundMs, `${took} ms`);
      assert.equal(proxy.connections, 2);
      assert.equal(gateway.counts.pending, 0);
    });
  }

  test("under a call of a client: it fails as a break does, and the next one goes over a new one", async () => {
    const { proxy, options } = await start();
    await using _proxy = proxy;
    using client = createClient(options);
    await client.ingestion.listEvents({ pageSize: 1 });
    proxy.goSilent();
    const silentAt = performance.now();
    await assert.rejects(client.ingestion.listEvents({ pageSize: 1 }), { code: Code.Unavailable });
    const took = performance.now() - silentAt;
    assert.ok(took > brief.pingTimeoutMs && took < foundMs, `${took} ms`);
    // In the same turn: nobody must have to wait for the session to be done with.
    await client.ingestion.listEvents({ pageSize: 1 });
    assert.equal(proxy.connections, 2);
  });

  test("under a stream that is followed: it goes on over a new one, without gap and without repeat", async () => {
    const { proxy, options } = await start();
    await using _proxy = proxy;
    using client = createClient(options);
    using writer = createClient({ endpoint: server.url, apiKey: server.tenant.apiKey });
    const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
    const write = (eventId: string) =>
      writer.ingestion.ingestEvent({ event: { eventId, eventType: "followed_in_silence" } });
    const seen: (string | undefined)[] = [];
    const breaks: BreakNotice[] = [];
    const request = { filter: { eventTypes: ["followed_in_silence"] }, backlog: 10 };
    let silentAt = 0;
    await write(ids[0]);
    for await (const { events } of follow(client.ingestion.watchEvents, request, {
      retry: { initialDelayMs: 20, maxDelayMs: 100 },
      onBreak: (notice) => void breaks.push(notice),
    })) {
      seen.push(...events.map(({ event }) => event?.eventId));
      if (seen.length === 3) break;
      if (seen.length !== 1 || silentAt > 0) continue;
      proxy.goSilent();
      silentAt = performance.now();
      for (const id of ids.slice(1)) await write(id);
    }
    const took = performance.now() - silentAt;
    assert.deepEqual(seen, ids);
    assert.ok(took > brief.pingTimeoutMs && took < foundMs, `${took} ms`);
    assert.deepEqual(
      breaks.map(({ error }) => error.code),
      [Code.Unavailable],
    );
    assert.equal(proxy.connections, 2);
  });

  test("while nothing is sent: the next call of either finds it before it is sent", async () => {
    const { proxy, options } = await start();
    await using _proxy = proxy;
    using client = createClient(options);
    const retries: unknown[] = [];
    await using gateway = createGateway({
      ...options,
      batch: { maxDelayMs: 10 },
      onRetry: (notice) => void retries.push(notice),
    });
    await client.ingestion.listEvents({ pageSize: 1 });
    assert.equal((await gateway.eventOutcome({ eventType: "idle" })).status, "accepted");
    assert.equal(proxy.connections, 2);
    proxy.goSilent();
    await sleep(brief.pingIntervalMs + 50);
    const askedAt = performance.now();
    const [, outcome] = await Promise.all([
      client.ingestion.listEvents({ pageSize: 1 }),
      gateway.eventOutcome({ eventType: "idle" }),
    ]);
    const took = performance.now() - askedAt;
    assert.equal(outcome.status, "accepted");
    assert.ok(took > brief.pingTimeoutMs - 50 && took < foundMs, `${took} ms`);
    assert.deepEqual(retries, []);
    assert.equal(proxy.connections, 4);
  });
});

test("a peer that takes its time is not given up while it answers pings", async () => {
  const peer = http2.createServer();
  let sessions = 0;
  peer.on("session", () => {
    sessions++;
  });
  peer.on("stream", async (stream: ServerHttp2Stream) => {
    await sleep(1_500);
    stream.respond({ ":status": 200 });
    stream.end("at last");
  });
  await using listening = await listen(peer);
  const connection = new Http2Connection(listening.url, { pingIntervalMs: 100, pingTimeoutMs: 600 });
  const stream = await connection.request("/", {});
  stream.setEncoding("utf8").end();
  const over = once(stream, "close");
  let answer = "";
  for await (const piece of stream) answer += piece;
  await over;
  assert.equal(answer, "at last");
  assert.equal(sessions, 1);
  connection.close(new Error("the test is over"));
});

test("a connection that nobody uses is closed after 15 minutes, and the next call opens another one", async () => {
  const peer = http2.createServer();
  const sessions: ServerHttp2Session[] = [];
  peer.on("session", (session) => sessions.push(session));
  peer.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200 });
    stream.end();
  });
  await using listening = await listen(peer);
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    const connection = new Http2Connection(listening.url, usual);
    const call = async () => {
      const stream = await connection.request("/", {});
      stream.resume().end();
      await once(stream, "close");
    };
    await call();
    mock.timers.tick(15 * 60_000 - 1_000);
    await call();
    assert.equal(sessions.length, 1);
    // The second call began the time anew.
    mock.timers.tick(15 * 60_000 - 1_000);
    assert.equal(sessions[0]?.closed, false);
    const closed = once(sessions[0] as ServerHttp2Session, "close");
    mock.timers.tick(1_000);
    await closed;
    await call();
    assert.equal(sessions.length, 2);
    connection.close(new Error("the test is over"));
  } finally {
    mock.timers.reset();
  }
});

async function listen(peer: http2.Http2Server) {
  peer.listen(0, "127.0.0.1");
  await once(peer, "listening");
  const { port } = peer.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(peer, "close");
      peer.close();
      await closed;
    },
  };
}
