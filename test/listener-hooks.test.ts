import assert from "node:assert/strict";
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
import { PushStream } from "../server/src/rpc/push-stream.ts";
import { startListener } from "./helpers/listener.ts";

const { check } = Health.method;

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
