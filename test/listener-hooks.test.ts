import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import {
  Health,
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import type { WatchProgressResponse } from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { listenerLimits } from "../server/src/listener/limits.ts";
import { PushStream, type Sink } from "../server/src/rpc/push-stream.ts";
import { openSession, RawConnection, startListener } from "./helpers/listener.ts";

const { check } = Health.method;
const { watchProgress } = ProgressService.method;

describe("decoders and encoders", () => {
  /** Answers SERVING for what the decoder has made of the service's name. */
  const routes = (router: ConnectRouter) =>
    router.service(Health, {
      check: ({ service }) => ({ status: service === "decoded: a" ? Status.SERVING : Status.NOT_SERVING }),
    });

  test("stand in place of the library's for protobuf on the lean path, and nowhere else", async () => {
    let encoded = 0;
    await using server = await startListener({
      routes,
      decoders: new Map([
        [
          check,
          (bytes: Uint8Array) => {
            const { service } = fromBinary(check.input, bytes);
            return create(check.input, { service: `decoded: ${service}` });
          },
        ],
      ]),
      encoders: new Map([
        [
          check,
          (message: object) => {
            encoded++;
            return toBinary(check.output, message as HealthCheckResponse);
          },
        ],
      ]),
    });
    const { url: baseUrl } = server;
    const statusOver = async (transport: ReturnType<typeof createGrpcTransport>) =>
      (await createClient(Health, transport).check({ service: "a" })).status;
    assert.equal(await statusOver(createGrpcTransport({ baseUrl })), Status.SERVING);
    assert.equal(
      await statusOver(createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: true })),
      Status.SERVING,
    );
    assert.equal(encoded, 2);
    const json = createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false });
    assert.equal(await statusOver(json), Status.NOT_SERVING);
    assert.equal(encoded, 2);
  });

  test("a decoder that throws leaves the bytes to the library, an encoder without an answer the message", async () => {
    await using server = await startListener({
      routes: (router) => router.service(Health, { check: () => ({ status: Status.SERVING }) }),
      decoders: new Map([
        [
          check,
          (): HealthCheckRequest => {
            throw new Error("not for me");
          },
        ],
      ]),
      encoders: new Map([[check, () => undefined]]),
    });
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    assert.equal((await client.check({ service: "a" })).status, Status.SERVING);
  });
});

describe("a watcher that does not read", () => {
  /** Pushes without heed, as no handler of ours does, and says what became of it. */
  function pushing() {
    const opened = Promise.withResolvers<Sink<WatchProgressResponse>>();
    const stopped = Promise.withResolvers<void>();
    const routes = (router: ConnectRouter) =>
      router.rpc(
        watchProgress,
        () =>
          new PushStream<WatchProgressResponse>((sink) => {
            opened.resolve(sink);
            return () => stopped.resolve();
          }),
      );
    return { routes, opened: opened.promise, stopped: stopped.promise };
  }

  /** Writes until the stream is ended, and returns how much was taken. */
  async function flood(sink: Sink<WatchProgressResponse>, stopped: Promise<void>): Promise<number> {
    let isStopped = false;
    void stopped.then(() => {
      isStopped = true;
    });
    const message = create(watchProgress.output, { cursor: "x".repeat(size) });
    let bytes = 0;
    while (!isStopped) {
      sink.write(message);
      bytes += size;
      assert.ok(bytes < 256 * 1024 * 1024, "the memory of a slow reader has no bound");
      await new Promise((resolve) => setImmediate(resolve));
    }
    return bytes;
  }
  const size = 65_536;

  test("is cut off with SLOW_READER once more than the limit waits for it, over HTTP/1.1", async () => {
    const { routes, opened, stopped } = pushing();
    await using server = await startListener({ routes });
    using connection = new RawConnection(server.port);
    connection.socket.pause();
    const body = Buffer.alloc(5);
    connection.socket.write(
      `POST /${ProgressService.typeName}/WatchProgress HTTP/1.1\r\nhost: a\r\ncontent-type: application/connect+proto\r\ncontent-length: 5\r\n\r\n`,
    );
    connection.socket.write(body);
    const taken = await flood(await opened, stopped);
    // What the kernel holds comes on top.
    assert.ok(taken > listenerLimits.maxBehindBytes);
    connection.socket.resume();
    await connection.until(/"code":"resource_exhausted"/);
    assert.match(connection.received, /too slow for the stream/);
  });

  test("and over gRPC, with its reason in the trailers", async () => {
    const { routes, opened, stopped } = pushing();
    await using server = await startListener({ routes });
    using session = openSession(server.url);
    const stream = session.request({
      ":method": "POST",
      ":path": `/${ProgressService.typeName}/WatchProgress`,
      "content-type": "application/grpc",
    });
    stream.pause();
    stream.end(Buffer.alloc(5));
    const taken = await flood(await opened, stopped);
    assert.ok(taken > listenerLimits.maxBehindBytes);
    const trailers = once(stream, "trailers");
    stream.resume();
    const [fields] = await trailers;
    assert.equal(Number(fields["grpc-status"]), Code.ResourceExhausted);
    assert.match(decodeURIComponent(fields["grpc-message"]), /too slow for the stream/);
  });

  test("pushed through connect-node, no more waits than the stream may hold", async () => {
    const pushed: number[] = [];
    const stream = new PushStream<number>((sink) => {
      let next = 0;
      while (sink.write(next)) pushed.push(next++);
      sink.onDrain(() =>
        sink.end(
          new ConnectError("over", Code.Aborted, undefined, [
            { desc: ErrorInfoSchema, value: { reason: "OVER" } },
          ]),
        ),
      );
      return () => {};
    });
    const got: number[] = [];
    await assert.rejects(async () => {
      for await (const each of stream) got.push(each);
    }, /over/);
    assert.equal(got.length, 16);
    assert.equal(pushed.length, 15);
  });
});
