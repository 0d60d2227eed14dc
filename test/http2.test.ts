import assert from "node:assert/strict";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import fc from "fast-check";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import { errorCode, frameType } from "../server/src/listener/h2/frames.ts";
import { HeaderReader } from "../server/src/listener/h2/header-reader.ts";
import { openSession, request, startListener, type TestListener } from "./helpers/listener.ts";
import { flags, frame, frames, headerBlocks, RawHttp2 } from "./helpers/raw-http2.ts";

const check = `/${Health.typeName}/Check`;
const call = {
  ":method": "POST",
  ":scheme": "http",
  ":path": check,
  ":authority": "localhost",
  "content-type": "application/grpc",
  te: "trailers",
};
const message = Buffer.alloc(5);
const grpc = { ":method": "POST", ":path": check, "content-type": "application/grpc", te: "trailers" };

describe("header blocks", () => {
  test("of Node's client are read as they were meant, whatever came before on the connection", async () => {
    const blocks: Buffer[] = [];
    const server = net.createServer((socket) => {
      let bytes: Buffer = Buffer.alloc(0);
      let at = 24; // Behind the preface.
      socket.on("error", () => {});
      socket.write(frame(frames.settings, 0, 0, Buffer.alloc(0)));
      socket.on("data", (chunk) => {
        bytes = Buffer.concat([bytes, chunk as Buffer]);
        while (bytes.length >= at + 9 && bytes.length >= at + 9 + bytes.readUIntBE(at, 3)) {
          const end = at + 9 + bytes.readUIntBE(at, 3);
          if (bytes[at + 3] === frames.headers) {
            blocks.push(bytes.subarray(at + 9, end));
            const id = bytes.readUInt32BE(at + 5);
            const ended = flags.endHeaders | flags.endStream;
            socket.write(frame(frames.headers, ended, id, Buffer.from([0x88])));
          }
          at = end;
        }
      });
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const url = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    const name = fc.stringMatching(/^x-[a-z0-9-]{0,12}$/);
    const value = fc.stringMatching(/^(?:[!-~\xa1-\xff](?:[ -~\xa0-\xff]{0,60}[!-~\xa1-\xff])?)?$/);
    const fields = fc.dictionary(name, fc.oneof(value, fc.constantFrom("same", "y".repeat(900))), {
      maxKeys: 8,
    });
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(fields, { minLength: 1, maxLength: 12 }), async (requests) => {
          const session = http2.connect(url);
          const reader = new HeaderReader({ maxBytes: 1e6, maxFields: 1_000 });
          blocks.length = 0;
          for (const sent of requests) {
            const stream = session.request({ ":path": "/", ...sent });
            stream.resume();
            await once(stream, "close");
            const { list } = reader.read(blocks.at(-1) as Buffer);
            const read = Object.fromEntries(
              list.flatMap((text, index) => (index % 2 ? [] : [[text, list[index + 1] as string]])),
            );
            for (const [name, text] of Object.entries(sent)) assert.equal(read[name], text);
            assert.equal(list.length, 2 * (Object.keys(sent).length + 4));
          }
          session.destroy();
        }),
        { numRuns: 40 },
      );
    } finally {
      server.close();
    }
  });

  test("any bytes are read or refused", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }), (blocks) => {
        const reader = new HeaderReader({ maxBytes: 1_000, maxFields: 10 });
        for (const block of blocks) {
          try {
            const { list } = reader.read(block);
            assert.ok(list.every((text) => typeof text === "string") && list.length <= 20);
          } catch (error) {
            assert.equal((error as { code?: number }).code, errorCode.compression);
            return;
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test("of several frames are one; unchanged ones are the same again after the table has changed", async () => {
    await using server = await startListener();
    using session = openSession(server.url);
    const large = { "x-large": "l".repeat(20_000) };
    for (const more of [{}, large, {}, { "x-new": "1" }, {}, large, {}, { "x-new": "1" }]) {
      const answer = await request(session, { ...grpc, ...more }, message);
      assert.equal(answer.status, 200);
      assert.equal(answer.rst, http2.constants.NGHTTP2_NO_ERROR);
    }
  });
});

describe("what breaks the protocol", () => {
  const block = headerBlocks(call).first;
  const open = (id = 1) => frame(frames.headers, flags.endHeaders, id, block);
  const block32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const setting = (id: number, value: number) => {
    const bytes = Buffer.alloc(6);
    bytes.writeUInt16BE(id);
    bytes.writeUInt32BE(value, 2);
    return frame(frames.settings, 0, 0, bytes);
  };
  const endsConnection: [name: string, code: number, bytes: Buffer][] = [
    ["a frame that is too large", errorCode.frameSize, frame(frames.data, 0, 1, Buffer.alloc(16_385))],
    ["data for no stream", errorCode.protocol, frame(frames.data, 0, 0, message)],
    ["data for a stream that never was", errorCode.protocol, frame(frames.data, 0, 5, message)],
    ["a stream with an even number", errorCode.protocol, open(2)],
    [
      "more padding than frame",
      errorCode.protocol,
      Buffer.concat([open(), frame(frames.data, 8, 1, Buffer.from([9, 0]))]),
    ],
    [
      "a header block that cannot be read",
      errorCode.compression,
      frame(frames.headers, flags.endHeaders, 1, Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
    ],
    [
      "an index of nothing",
      errorCode.compression,
      frame(frames.headers, flags.endHeaders, 1, Buffer.from([0x80])),
    ],
    [
      "a table larger than was agreed",
      errorCode.compression,
      frame(frames.headers, flags.endHeaders, 1, Buffer.from([0x3f, 0xff, 0xff, 0x03])),
    ],
    [
      "a frame between the pieces of a header block",
      errorCode.protocol,
      Buffer.concat([frame(frames.headers, 0, 1, block), frame(frames.ping, 0, 0, Buffer.alloc(8))]),
    ],
    ["a continuation of nothing", errorCode.protocol, frame(frames.continuation, flags.endHeaders, 1, block)],
    ["a push", errorCode.protocol, frame(5, flags.endHeaders, 1, block)],
    ["a ping of four bytes", errorCode.frameSize, frame(frames.ping, 0, 0, Buffer.alloc(4))],
    ["a ping on a stream", errorCode.protocol, frame(frames.ping, 0, 1, Buffer.alloc(8))],
    ["settings of five bytes", errorCode.frameSize, frame(frames.settings, 0, 0, Buffer.alloc(5))],
    ["settings of a stream", errorCode.protocol, frame(frames.settings, 0, 1, Buffer.alloc(0))],
    [
      "an acknowledgement with content",
      errorCode.frameSize,
      frame(frames.settings, flags.ack, 0, Buffer.alloc(6)),
    ],
    ["a window of 2^31", errorCode.flowControl, setting(4, 2 ** 31)],
    ["frames of 100 bytes", errorCode.protocol, setting(5, 100)],
    ["a push setting of 2", errorCode.protocol, setting(2, 2)],
    ["a window update of nothing", errorCode.protocol, frame(frames.windowUpdate, 0, 0, block32(0))],
    [
      "a window update of three bytes",
      errorCode.frameSize,
      frame(frames.windowUpdate, 0, 0, Buffer.alloc(3)),
    ],
    [
      "a window that is too wide",
      errorCode.flowControl,
      frame(frames.windowUpdate, 0, 0, block32(2 ** 31 - 1)),
    ],
    ["a reset of a stream that never was", errorCode.protocol, frame(frames.reset, 0, 7, block32(8))],
    [
      "a priority of four bytes",
      errorCode.frameSize,
      Buffer.concat([open(), frame(frameType.priority, 0, 1, Buffer.alloc(4))]),
    ],
    [
      "a body behind the end of the request",
      errorCode.streamClosed,
      Buffer.concat([open(), frame(frames.reset, 0, 1, block32(8)), frame(frames.data, 0, 1, message)]),
    ],
    ["a number that was passed over", errorCode.streamClosed, Buffer.concat([open(5), open(3)])],
    ["goaway on a stream", errorCode.protocol, frame(frames.goaway, 0, 1, Buffer.alloc(8))],
  ];
  for (const [name, code, bytes] of endsConnection) {
    test(`${name}: the connection ends`, async () => {
      await using server = await startListener();
      const [type, , payload] = await firstOf(server, bytes, [frames.goaway]);
      assert.deepEqual([type, payload.readUInt32BE(4)], [frames.goaway, code]);
    });
  }

  const withFields = (fields: Record<string, string>) =>
    frame(frames.headers, flags.endHeaders, 1, headerBlocks(fields).first);
  const without = (name: string) =>
    Object.fromEntries(Object.entries(call).filter(([field]) => field !== name));
  const endsStream: [name: string, code: number, bytes: Buffer][] = [
    ["a header in capitals", errorCode.protocol, withFields({ ...call, "X-Loud": "1" })],
    ["no path", errorCode.protocol, withFields(without(":path"))],
    ["no method", errorCode.protocol, withFields(without(":method"))],
    ["no scheme", errorCode.protocol, withFields(without(":scheme"))],
    ["no host", errorCode.protocol, withFields(without(":authority"))],
    ["a pseudo header that is unknown", errorCode.protocol, withFields({ ":x": "1", ...call })],
    [
      "a pseudo header behind others",
      errorCode.protocol,
      withFields({ ...without(":path"), ":path": check }),
    ],
    ["a header of HTTP/1.1", errorCode.protocol, withFields({ ...call, connection: "close" })],
    ["te that is not trailers", errorCode.protocol, withFields({ ...call, te: "gzip" })],
    ["a value with a line break", errorCode.protocol, withFields({ ...call, "x-two": "a\r\nb: c" })],
    ["a length that is no number", errorCode.protocol, withFields({ ...call, "content-length": "five" })],
    [
      "a body shorter than announced",
      errorCode.protocol,
      Buffer.concat([
        withFields({ ...call, "content-length": "6" }),
        frame(frames.data, flags.endStream, 1, message),
      ]),
    ],
    [
      "a body longer than announced",
      errorCode.protocol,
      Buffer.concat([withFields({ ...call, "content-length": "4" }), frame(frames.data, 0, 1, message)]),
    ],
    [
      "trailers that end nothing",
      errorCode.protocol,
      Buffer.concat([
        open(),
        frame(frames.headers, flags.endHeaders, 1, headerBlocks({ "x-late": "1" }).first),
      ]),
    ],
    [
      "a window update of nothing on a stream",
      errorCode.protocol,
      Buffer.concat([open(), frame(frames.windowUpdate, 0, 1, block32(0))]),
    ],
    [
      "a window of a stream that is too wide",
      errorCode.flowControl,
      Buffer.concat([open(), frame(frames.windowUpdate, 0, 1, block32(2 ** 31 - 1))]),
    ],
  ];
  for (const [name, code, bytes] of endsStream) {
    test(`${name}: the stream ends, the connection does not`, async () => {
      await using server = await startListener();
      const [type, id, payload] = await firstOf(server, bytes, [frames.reset, frames.goaway]);
      assert.deepEqual([type, id, payload.readUInt32BE(0)], [frames.reset, 1, code]);
    });
  }

  test("more data than the window holds", async () => {
    await using server = await startListener({
      limits: { streamWindowBytes: 20_000, connectionWindowBytes: 100_000 },
    });
    // To Node's server, which reads nothing of it before its end.
    const put = withFields({ ...call, ":method": "PUT", ":path": "/nowhere" });
    const data = frame(frames.data, 0, 1, Buffer.alloc(16_000));
    const [type, id, payload] = await firstOf(server, Buffer.concat([put, data, data, data]), [
      frames.reset,
      frames.goaway,
    ]);
    assert.deepEqual([type, id, payload.readUInt32BE(0)], [frames.reset, 1, errorCode.flowControl]);
  });
});

/** Sends bytes after the preface; the first frame of these types that comes back. */
async function firstOf(
  server: TestListener,
  bytes: Buffer,
  types: readonly number[],
): Promise<[type: number, id: number, payload: Buffer]> {
  const connection = await RawHttp2.open(server.url);
  try {
    return await new Promise((resolve, reject) => {
      connection.onFrame = (type, _flag, id, payload) => {
        if (types.includes(type)) resolve([type, id, payload]);
      };
      connection.socket.on("error", reject);
      connection.socket.on("close", () => reject(new Error("closed without a word")));
      connection.socket.write(bytes);
    });
  } finally {
    connection.socket.destroy();
  }
}

describe("windows", () => {
  const large = 300_000;
  const listen = () =>
    startListener({
      routes: (router) =>
        router.service(Health, {
          check: () => ({ status: Status.SERVING }),
          list: () => ({ statuses: { ["x".repeat(large)]: { status: Status.SERVING } } }),
        }),
    });
  const list = { ...grpc, ":path": `/${Health.typeName}/List` };

  test("an answer goes out as the client takes it, in steps of any size", async () => {
    await using server = await listen();
    for (const initialWindowSize of [999, 65_535, 2 ** 31 - 1]) {
      using session = openSession(server.url, { settings: { initialWindowSize } });
      const answers = await Promise.all([0, 1, 2].map(() => request(session, list, message)));
      for (const { body, rst } of answers) assert.deepEqual([rst, body.length > large], [0, true]);
    }
  });

  test("a client that takes nothing of one answer gets the others", async () => {
    await using server = await listen();
    using session = openSession(server.url, { settings: { initialWindowSize: 1_000 } });
    await once(session, "remoteSettings");
    const stuck = session.request(list, { endStream: false });
    stuck.pause();
    stuck.end(message);
    await once(stuck, "response");
    assert.equal((await request(session, grpc, message)).status, 200);
    // And a window that widens afterwards lets it go on.
    session.settings({ initialWindowSize: 2 ** 20 });
    const body = Buffer.concat(await stuck.toArray());
    assert.ok(body.length > large);
  });

  test("requests larger than the windows arrive, on either way", async () => {
    await using server = await startListener({
      limits: { streamWindowBytes: 70_000, connectionWindowBytes: 90_000 },
    });
    using session = openSession(server.url);
    for (const headers of [grpc, { ":method": "POST", ":path": "/nowhere" }]) {
      const answers = await Promise.all(
        [0, 1, 2].map(() => request(session, headers, Buffer.alloc(1_000_000))),
      );
      for (const { status } of answers) assert.ok(status === 200 || status === 404);
    }
  });
});

test("calls of all ways share a connection, whatever pieces its bytes come in", async () => {
  await using server = await startListener();
  const cutting = net.createServer((near) => {
    const far = net.connect({ port: server.port, host: "127.0.0.1", noDelay: true });
    near.on("data", (chunk) => {
      for (let at = 0; at < chunk.length; ) {
        const end = at + 1 + Math.floor(Math.random() * 40);
        far.write((chunk as Buffer).subarray(at, end));
        at = end;
      }
    });
    far.pipe(near);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on("error", () => {});
      one.on("close", () => other.destroy());
    }
  });
  await once(cutting.listen(0, "127.0.0.1"), "listening");
  const baseUrl = `http://127.0.0.1:${(cutting.address() as net.AddressInfo).port}`;
  const lean = createClient(Health, createGrpcTransport({ baseUrl }));
  const bridged = createClient(
    Health,
    createConnectTransport({ baseUrl, httpVersion: "2", useHttpGet: true, compressMinBytes: 0 }),
  );
  await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const answer = await (index % 3 ? lean : bridged).check({});
      assert.equal(answer.status, Status.SERVING);
    }),
  );
  const stop = new AbortController();
  const first = lean.watch({}, { signal: stop.signal })[Symbol.asyncIterator]();
  assert.equal((await first.next()).value?.status, Status.SERVING);
  stop.abort();
  await assert.rejects(async () => await first.next());
  while (server.listener.requests() > 0) await sleep(5);
  cutting.close();
  await server[Symbol.asyncDispose]();
});
