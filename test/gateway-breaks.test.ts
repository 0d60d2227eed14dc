import assert from "node:assert/strict";
import { once } from "node:events";
import http2, { constants, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import {
  createClient,
  createGateway,
  IngestEventsRequestSchema,
  IngestEventsResponseSchema,
  OutcomeStatus,
  PulsewireError,
} from "../sdk/src/index.ts";

/** Ends a call without an answer. */
type End = (stream: ServerHttp2Stream, socket: Socket) => void;

const answered = { ":status": 200, "content-type": "application/grpc+proto" };

const ends: Record<string, End> = {
  "the session is destroyed": ({ session }) => session?.destroy(),
  "the session fails": ({ session }) =>
    session?.destroy(new Error("broken"), constants.NGHTTP2_INTERNAL_ERROR),
  "the socket is destroyed": (_, socket) => socket.destroy(),
  "the socket is reset": (_, socket) => socket.resetAndDestroy(),
  "the socket is ended": (_, socket) => socket.end(),
  "GOAWAY, and then the end": ({ session }, socket) => {
    session?.close();
    setImmediate(() => socket.destroy());
  },
  "GOAWAY that says why": ({ session }) => session?.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM),
  "RST_STREAM without an error": (stream) => stream.close(constants.NGHTTP2_NO_ERROR),
  "RST_STREAM, refused": (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM),
  "RST_STREAM, internal error": (stream) => stream.close(constants.NGHTTP2_INTERNAL_ERROR),
  "RST_STREAM, cancelled": (stream) => stream.close(constants.NGHTTP2_CANCEL),
  "RST_STREAM, calm down": (stream) => stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM),
  "headers only": (stream) => {
    stream.respond(answered);
    stream.end();
  },
  "half an answer": (stream, socket) => {
    stream.respond(answered);
    stream.write(Buffer.from([0, 0, 0, 1]), () => socket.destroy());
  },
};

/** Takes events; the first calls end as told, each once it was read or, every other one, before. */
async function startSink(end: End) {
  const sockets = new Set<Socket>();
  const server = http2.createServer();
  let toBreak = 4;
  server.prependListener("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
  });
  server.on("sessionError", () => {});
  server.on("session", (session) => {
    const socket = [...sockets].at(-1) as Socket;
    session.on("stream", async (stream: ServerHttp2Stream) => {
      stream.on("error", () => {});
      const breaks = toBreak-- > 0;
      const chunks: Buffer[] = [];
      try {
        if (!breaks || toBreak % 2 === 1) for await (const chunk of stream) chunks.push(chunk);
      } catch {
        // It was broken off with another one.
        return;
      }
      if (stream.destroyed) return;
      if (breaks) return end(stream, socket);
      const { events } = fromBinary(IngestEventsRequestSchema, Buffer.concat(chunks).subarray(5));
      const outcomes = events.map(({ eventId: id }) => ({ id, status: OutcomeStatus.ACCEPTED }));
      const message = toBinary(IngestEventsResponseSchema, create(IngestEventsResponseSchema, { outcomes }));
      const prefix = Buffer.alloc(5);
      prefix.writeUInt32BE(message.length, 1);
      stream.respond(answered, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.concat([prefix, message]));
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

describe("a call that ends without an answer", { concurrency: true }, () => {
  for (const [name, end] of Object.entries(ends)) {
    test(`${name}: its events are sent again, soon`, async () => {
      await using sink = await startSink(end);
      const gateway = createGateway({
        endpoint: sink.url,
        compression: "none",
        batch: { maxDelayMs: 5 },
        retry: { initialDelayMs: 10 },
        pace: { rampMs: 0 },
      });
      for (let index = 0; index < 3_000; index++) gateway.event({ eventType: "kept", payload: { index } });
      const { accepted, dropped, retried, pending } = await gateway.flush({ deadlineMs: 5_000 });
      await gateway.close({ deadlineMs: 0 });
      assert.deepEqual({ accepted, dropped, pending }, { accepted: 3_000, dropped: {}, pending: 0 });
      assert.ok(retried >= 500);
    });

    test(`${name}: UNAVAILABLE to a caller, of a stream, too`, async () => {
      await using sink = await startSink(end);
      using client = createClient({ endpoint: sink.url });
      const broken = (error: unknown) => error instanceof PulsewireError && error.code === Code.Unavailable;
      await assert.rejects(client.ingestion.ingestEvents({}), broken);
      await assert.rejects(async () => {
        for await (const _ of client.ingestion.watchEvents({}, { signal: AbortSignal.timeout(5_000) }));
      }, broken);
    });
  }
});
