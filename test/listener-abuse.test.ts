import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Health } from "../server/src/gen/grpc/health/v1/health_pb.js";
import { startListener, type TestListener } from "./helpers/listener.ts";
import { flags, frame, frames, headerBlocks, RawHttp2 } from "./helpers/raw-http2.ts";

const attackers = 8;
const attackMs = 700;
/** Of the whole test process: attackers, listener and the client that is served. */
const mostMemoryBytes = 150 * 1024 * 1024;
/** Longest that a call of others may take meanwhile, on a machine that does other things, too. */
const slowestCallMs = 3_000;

const call = {
  ":method": "POST",
  ":scheme": "http",
  ":path": `/${Health.typeName}/Check`,
  ":authority": "localhost",
  "content-type": "application/grpc",
  te: "trailers",
};

/** What an attacker does, again and again until its connection is closed. */
type Attack = (connection: RawHttp2, round: number) => Buffer;

const cancel = Buffer.from([0, 0, 0, 8]);
const attacks: Record<string, Attack> = {
  "rapid reset": (connection, round) => {
    const blocks = headerBlocks(call);
    const id = connection.nextId();
    return Buffer.concat([
      frame(frames.headers, flags.endHeaders, id, round === 0 ? blocks.first : blocks.later),
      frame(frames.reset, 0, id, cancel),
    ]);
  },
  "a flood of settings": () =>
    Buffer.concat(Array.from({ length: 100 }, () => frame(frames.settings, 0, 0, Buffer.alloc(0)))),
  "settings of many entries": () => frame(frames.settings, 0, 0, Buffer.alloc(6 * 1_000, 9)),
  "a flood of pings": () =>
    Buffer.concat(Array.from({ length: 100 }, () => frame(frames.ping, 0, 0, Buffer.alloc(8, 1)))),
  "streams without end": (connection, round) => {
    const blocks = headerBlocks(call);
    const block = round === 0 ? blocks.first : blocks.later;
    return frame(frames.headers, flags.endHeaders, connection.nextId(), block);
  },
  "header blocks without end": (connection, round) =>
    round === 0
      ? frame(frames.headers, 0, connection.nextId(), headerBlocks(call).first)
      : frame(
          frames.continuation,
          0,
          1,
          Buffer.concat([Buffer.from([0, 1, 0x61, 127, 0x81, 126]), Buffer.alloc(16_256, 0x62)]),
        ),
  "giant headers": (connection, round) => {
    const more = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`x-${i}`, "y".repeat(1_000)]));
    const blocks = headerBlocks(round === 0 ? call : { ...call, ...more });
    return frame(frames.headers, flags.endHeaders, connection.nextId(), blocks.first);
  },
  "a table that is pointed into": (connection, round) => {
    const blocks = headerBlocks({ "x-big": "z".repeat(3_900) });
    const many = Buffer.alloc(8_000, 0x80 | 62);
    const block = round === 0 ? Buffer.concat([headerBlocks(call).first, blocks.first]) : many;
    return frame(frames.headers, flags.endHeaders, connection.nextId(), block);
  },
  "window updates of nothing": () => frame(frames.windowUpdate, 0, 0, Buffer.alloc(4)),
  "data for streams that never were": () => frame(frames.data, 0, 99_999, Buffer.alloc(16_000)),
};

describe("abuse of HTTP/2: others are served, and memory is bounded", () => {
  for (const [name, attack] of Object.entries(attacks)) {
    test(name, async () => {
      await using server = await startListener();
      const before = process.memoryUsage().rss;
      const over = new AbortController();
      const attacking = Array.from({ length: attackers }, () => run(server, attack, over.signal));
      const served = await serve(server, attackMs);
      over.abort();
      const sent = await Promise.all(attacking);
      assert.ok(
        served.calls > 0 && served.slowestMs < slowestCallMs,
        `the slowest call took ${served.slowestMs} ms`,
      );
      assert.ok(sent.every((rounds) => rounds > 0));
      const grown = process.memoryUsage().rss - before;
      assert.ok(grown < mostMemoryBytes, `memory has grown by ${grown} bytes`);
      // And afterwards as before.
      assert.ok((await serve(server, 50)).calls > 0);
    });
  }

  test("headers that never end are ended with their connection", async () => {
    await using server = await startListener({ limits: { idleTimeoutMs: 300, lingerTimeoutMs: 200 } });
    const connection = await RawHttp2.open(server.url);
    // Once both have agreed on settings, nothing else may stand between the pieces of a header block.
    await sleep(50);
    const began = performance.now();
    connection.socket.write(frame(frames.headers, 0, connection.nextId(), headerBlocks(call).first));
    await once(connection.socket, "close");
    assert.ok(performance.now() - began > 150, "it was ended for another reason");
    assert.ok((await serve(server, 50)).calls > 0);
  });
});

/** Attacks until told to stop, with a new connection for each that is closed; how often it sent. */
async function run(server: TestListener, attack: Attack, signal: AbortSignal): Promise<number> {
  let rounds = 0;
  while (!signal.aborted) {
    const connection = await RawHttp2.open(server.url).catch(() => undefined);
    if (!connection) continue;
    const { socket } = connection;
    socket.on("error", () => {});
    for (let round = 0; !signal.aborted && !socket.destroyed; round++) {
      rounds++;
      // Who sends faster than is read waits, or is closed.
      if (!socket.write(attack(connection, round))) {
        await Promise.race([once(socket, "drain"), once(socket, "close"), sleep(50)]).catch(() => {});
      } else await new Promise((resolve) => setImmediate(resolve));
    }
    socket.destroy();
  }
  return rounds;
}

/** Calls one after the other over a connection of its own. */
async function serve(server: TestListener, forMs: number): Promise<{ calls: number; slowestMs: number }> {
  const sessionManager = new Http2SessionManager(server.url);
  const client = createClient(Health, createGrpcTransport({ baseUrl: server.url, sessionManager }));
  const end = performance.now() + forMs;
  let calls = 0;
  let slowestMs = 0;
  try {
    do {
      const started = performance.now();
      await client.check({}, { timeoutMs: 10_000 });
      slowestMs = Math.max(slowestMs, performance.now() - started);
      calls++;
    } while (performance.now() < end);
  } finally {
    sessionManager.abort();
  }
  return { calls, slowestMs };
}
