import assert from "node:assert/strict";
import { once } from "node:events";
import { constants } from "node:http2";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { Health } from "../server/src/gen/grpc/health/v1/health_pb.js";
import { openSession, RawConnection, request, startListener } from "./helpers/listener.ts";

const check = "/grpc.health.v1.Health/Check";
const post = { ":path": check, ":method": "POST", "content-type": "application/json" };

/** A health service whose Check never answers. */
function stuck(router: ConnectRouter): void {
  router.service(Health, { check: () => new Promise<never>(() => {}) });
}

describe("message size", () => {
  test("a message too large is refused with RESOURCE_EXHAUSTED in every protocol", async () => {
    await using server = await startListener({ limits: { readMaxBytes: 10_000 } });
    const { url: baseUrl } = server;
    const message = { service: "x".repeat(3_000_000) };
    for (const [name, transport] of Object.entries({
      grpc: createGrpcTransport({ baseUrl }),
      web1: createGrpcWebTransport({ baseUrl, httpVersion: "1.1" }),
      web2: createGrpcWebTransport({ baseUrl, httpVersion: "2" }),
      connect1: createConnectTransport({ baseUrl, httpVersion: "1.1" }),
      connect2: createConnectTransport({ baseUrl, httpVersion: "2" }),
      json: createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
    })) {
      const client = createClient(Health, transport);
      const calls = [client.check(message), Array.fromAsync(client.watch(message))];
      for (const error of await Promise.all(calls.map((call) => call.catch(ConnectError.from)))) {
        assert.ok(error instanceof ConnectError, name);
        assert.equal(error.code, Code.ResourceExhausted, `${name}: ${error.message}`);
        assert.match(error.rawMessage, /3\d{6}.*larger than.*10000|larger than.*10000/, name);
      }
    }
  });

  test("so is one that grows beyond the limit when decompressed", async () => {
    await using server = await startListener({ limits: { readMaxBytes: 10_000 } });
    using session = openSession(server.url);
    const bomb = gzipSync(Buffer.from(JSON.stringify({ service: "x".repeat(5_000_000) })));
    assert.ok(bomb.length < 10_000);
    const answer = await request(session, { ...post, "content-encoding": "gzip" }, bomb);
    assert.deepEqual([answer.status, JSON.parse(answer.body.toString()).code], [429, "resource_exhausted"]);
  });

  test("what was not read of a message too large keeps no HTTP/2 stream open", async () => {
    await using server = await startListener({ limits: { readMaxBytes: 10_000 } });
    using session = openSession(server.url);
    for (const size of [20_000, 2_000_000]) {
      const answer = await request(session, post, Buffer.alloc(size, " "));
      assert.equal(answer.status, 429);
    }
    for (let waited = 0; server.listener.requests() > 0; waited += 10) {
      assert.ok(waited < 2_000, `${server.listener.requests()} requests are still open`);
      await sleep(10);
    }
  });

  test("the connection serves on after a message too large", async () => {
    await using server = await startListener({ limits: { readMaxBytes: 10_000 } });
    using raw = new RawConnection(server.port);
    const head = `POST ${check} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length:`;
    raw.socket.write(`${head} 20000\r\n\r\n${" ".repeat(20_000)}${head} 2\r\n\r\n{}`);
    await raw.until(/resource_exhausted.*SERVING/s);
  });
});

describe("slow and idle peers", () => {
  test("a connection that says nothing is closed, in cleartext and before a TLS handshake", async () => {
    const { generate } = await import("selfsigned");
    const { cert, private: key } = await generate([{ name: "commonName", value: "localhost" }]);
    for (const tls of [undefined, { cert, key }]) {
      await using server = await startListener({ limits: { sniffTimeoutMs: 50 }, ...(tls && { tls }) });
      using silent = new RawConnection(server.port);
      using partial = new RawConnection(server.port);
      partial.socket.write(tls ? Buffer.from([22, 3, 1]) : "PRI * HT");
      await Promise.all([silent.closed, partial.closed]);
    }
  });

  test("slow headers: 408 and the connection is closed", async () => {
    await using server = await startListener({ limits: { headersTimeoutMs: 50 } });
    using raw = new RawConnection(server.port);
    raw.socket.write("GET /readyz HTTP/1.1\r\nhost:");
    await raw.closed;
    assert.match(raw.received, /^HTTP\/1\.1 408 /);
  });

  test("a slow body: DEADLINE_EXCEEDED on HTTP/1.1 and HTTP/2, and a stream may take its time", async () => {
    const limits = { requestTimeoutMs: 60, lingerTimeoutMs: 20 };
    await using server = await startListener({ limits });
    using raw = new RawConnection(server.port);
    raw.socket.write(
      `POST ${check} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{`,
    );
    await raw.closed;
    assert.match(raw.received, /^HTTP\/1\.1 408 .*connection: close.*deadline_exceeded/is);

    using session = openSession(server.url);
    const grpc = { ...post, "content-type": "application/grpc" };
    const stream = session.request(grpc, { endStream: false });
    stream.write(Buffer.from([0, 0]));
    const [answer] = await once(stream, "response");
    assert.equal(answer["grpc-status"], String(Code.DeadlineExceeded));

    const reflect = { ...grpc, ":path": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo" };
    const open = session.request(reflect, { endStream: false });
    await sleep(200);
    open.write(Buffer.from([0, 0, 0, 0, 2, 0x3a, 0]));
    const [data] = await once(open, "data");
    assert.match(data.toString(), /grpc\.health\.v1\.Health/);
    open.end();
  });

  test("idle connections are closed: HTTP/1.1 after an answer, HTTP/2 without streams", async () => {
    await using server = await startListener({ limits: { keepAliveTimeoutMs: 30, idleTimeoutMs: 60 } });
    using raw = new RawConnection(server.port);
    raw.socket.write("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    using session = openSession(server.url);
    const goaway = once(session, "goaway");
    using busy = openSession(server.url);
    const grpc = { ...post, ":path": "/grpc.health.v1.Health/Watch", "content-type": "application/grpc" };
    const watch = busy.request(grpc, { endStream: false });
    watch.end(Buffer.alloc(5));
    const [code] = await goaway;
    assert.equal(code, constants.NGHTTP2_NO_ERROR);
    await raw.closed;
    assert.match(raw.received, /^HTTP\/1\.1 200 /);
    assert.deepEqual([busy.closed, watch.closed], [false, false]);
  });
});

describe("counts and sizes", () => {
  test("headers: 431 on HTTP/1.1, the stream is reset on HTTP/2", async () => {
    await using server = await startListener({ limits: { maxHeaderBytes: 8192, maxHeaderListPairs: 50 } });
    using raw = new RawConnection(server.port);
    raw.socket.write(`GET /readyz HTTP/1.1\r\nhost: x\r\nx-large: ${"x".repeat(9000)}\r\n\r\n`);
    await raw.closed;
    assert.match(raw.received, /^HTTP\/1\.1 431 /);

    using session = openSession(server.url);
    // The limit holds from the moment the client has acknowledged our settings.
    assert.equal((await request(session, { ":path": "/readyz" })).status, 200);
    const large = await request(session, { ":path": "/readyz", "x-large": "x".repeat(9000) });
    assert.equal(large.rst, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    const many = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`x-${i}`, "1"]));
    const manyHeaders = await request(session, { ":path": "/readyz", ...many });
    assert.equal(manyHeaders.rst, constants.NGHTTP2_ENHANCE_YOUR_CALM);
    assert.equal((await request(session, { ":path": "/readyz" })).status, 200);
  });

  test("streams of a connection", async () => {
    await using server = await startListener({ limits: { maxConcurrentStreams: 3 }, routes: stuck });
    // A client that ignores SETTINGS_MAX_CONCURRENT_STREAMS has its further streams refused.
    using session = openSession(server.url, { settings: {}, peerMaxConcurrentStreams: 100 });
    const streams = Array.from({ length: 5 }, () => {
      const stream = session.request(post, { endStream: false });
      stream.on("error", () => {});
      stream.end("{}");
      return stream;
    });
    await once(session, "remoteSettings");
    assert.equal(session.remoteSettings.maxConcurrentStreams, 3);
    await sleep(50);
    assert.equal(server.listener.requests(), 3);
    assert.ok(
      streams.every((stream) => !stream.closed || stream.rstCode === constants.NGHTTP2_REFUSED_STREAM),
    );
  });

  test("connections", async () => {
    await using server = await startListener({ limits: { maxConnections: 2 } });
    using first = new RawConnection(server.port);
    using second = new RawConnection(server.port);
    await Promise.all([once(first.socket, "connect"), once(second.socket, "connect")]);
    using third = new RawConnection(server.port);
    await third.closed;
    assert.equal(server.listener.connections(), 2);
    first.socket.destroy();
    await sleep(20);
    using fourth = new RawConnection(server.port);
    fourth.socket.write("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    await fourth.until(/200 OK/);
  });

  test("rapid resets close the connection, and others are served on", async () => {
    await using server = await startListener({
      limits: { maxRapidResets: 20, rapidResetsPerSecond: 1 },
      routes: stuck,
    });
    using session = openSession(server.url);
    const goaway = once(session, "goaway");
    await once(session, "connect");
    for (let i = 0; i < 100 && !session.destroyed; i++) {
      const stream = session.request(post, { endStream: false });
      stream.on("error", () => {});
      stream.close(constants.NGHTTP2_CANCEL);
      if (i % 10 === 0) await sleep(1);
    }
    await goaway;
    while (server.listener.requests() > 0) await sleep(5);
    assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  });

  test("deadlines longer than the limit", async () => {
    await using server = await startListener({ limits: { maxTimeoutMs: 5000 } });
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    const error = await client.check({}, { timeoutMs: 6000 }).catch(ConnectError.from);
    assert.ok(error instanceof ConnectError && error.code === Code.InvalidArgument);
    await client.check({}, { timeoutMs: 4000 });
  });

  test("a peer that vanishes in mid-stream harms nobody", async () => {
    await using server = await startListener();
    for (let i = 0; i < 20; i++) {
      const session = openSession(server.url);
      const stream = session.request({ ...post, ":path": "/grpc.health.v1.Health/Watch" });
      stream.on("error", () => {});
      await sleep(i % 5);
      session.destroy();
      const raw = new RawConnection(server.port);
      raw.socket.write(`POST ${check} HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n`);
      await sleep(i % 3);
      raw.socket.resetAndDestroy();
    }
    // What had crossed the bridge of HTTP/2 ends a few turns after its connection.
    while (server.listener.connections() > 0 || server.listener.requests() > 0) await sleep(5);
    assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
  });
});
