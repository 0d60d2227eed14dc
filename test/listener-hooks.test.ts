import assert from "node:assert/strict";
import { once } from "node:events";
import { describe, test } from "node:test";
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import {
  Health,
  type HealthCheckRequest,
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import type { WatchProgressResponse } from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import type { Codec } from "../server/src/listener/lean/method.ts";
import { listenerLimits } from "../server/src/listener/limits.ts";
import { PushStream, type Sink } from "../server/src/rpc/push-stream.ts";
import { openSession, RawConnection, startListener } from "./helpers/listener.ts";

const { check } = Health.method;
const { watchProgress } = ProgressService.method;

describe("the codec of a method", () => {
  /** Answers SERVING for what the codec has made of the service's name. */
  const routes = (router: ConnectRouter) =>
    router.service(Health, {
      check: ({ service }) => ({ status: service === "read: a" ? Status.SERVING : Status.NOT_SERVING }),
    });

  test("stands in place of the library on the lean path, and nowhere else", async () => {
    const calls = { readProto: 0, readJson: 0, writeProto: 0, writeJson: 0 };
    const read = ({ service }: HealthCheckRequest) => create(check.input, { service: `read: ${service}` });
    await using server = await startListener({
      routes,
      codecs: new Map([
        [
          check,
          {
            readProto(bytes) {
              calls.readProto++;
              return read(fromBinary(check.input, bytes));
            },
            readJson(text) {
              calls.readJson++;
              return read(fromJsonString(check.input, text));
            },
            writeProto(message) {
              calls.writeProto++;
              return toBinary(check.output, message as HealthCheckResponse);
            },
            writeJson(message) {
              calls.writeJson++;
              return toJsonString(check.output, message as HealthCheckResponse);
            },
          },
        ],
      ]),
    });
    const { url: baseUrl } = server;
    const statusOver = async (transport: Transport) =>
      (await createClient(Health, transport).check({ service: "a" })).status;
    const httpVersion = "1.1";
    assert.equal(await statusOver(createGrpcTransport({ baseUrl })), Status.SERVING);
    assert.equal(
      await statusOver(createConnectTransport({ baseUrl, httpVersion, useBinaryFormat: true })),
      Status.SERVING,
    );
    const json = createConnectTransport({ baseUrl, httpVersion, useBinaryFormat: false });
    assert.equal(await statusOver(json), Status.SERVING);
    assert.deepEqual(calls, { readProto: 2, readJson: 1, writeProto: 2, writeJson: 1 });
    assert.equal(
      await statusOver(createGrpcWebTransport({ baseUrl, httpVersion })),
      Status.NOT_SERVING,
      "connect-node",
    );
    assert.deepEqual(calls, { readProto: 2, readJson: 1, writeProto: 2, writeJson: 1 });
  });

  test("leaves to the library what it throws or leaves undefined", async () => {
    const codecs: Codec[] = [
      {
        readProto() {
          throw new Error("not for me");
        },
        readJson() {
          throw new Error("not for me");
        },
      },
      {
        readProto: () => undefined,
        readJson: () => undefined,
        writeProto: () => undefined,
        writeJson: () => undefined,
      },
    ];
    for (const codec of codecs) {
      await using server = await startListener({
        routes: (router) => router.service(Health, { check: () => ({ status: Status.SERVING }) }),
        codecs: new Map([[check, codec]]),
      });
      const { url: baseUrl } = server;
      for (const transport of [
        createGrpcTransport({ baseUrl }),
        createConnectTransport({ baseUrl, httpVersion: "1.1", useBinaryFormat: false }),
      ]) {
        assert.equal((await createClient(Health, transport).check({ service: "a" })).status, Status.SERVING);
      }
    }
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
