import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { constants } from "node:http2";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { ErrorInfoSchema, RetryInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import { openSession, RawConnection, startListener } from "./helpers/listener.ts";

const check = "/grpc.health.v1.Health/Check";

function transports(baseUrl: string): [string, Transport][] {
  return [
    ["gRPC", createGrpcTransport({ baseUrl })],
    ["gRPC-Web", createGrpcWebTransport({ baseUrl, httpVersion: "1.1" })],
    ["Connect, HTTP/1.1", createConnectTransport({ baseUrl, httpVersion: "1.1" })],
    ["Connect, HTTP/2", createConnectTransport({ baseUrl, httpVersion: "2" })],
  ];
}

function assertDraining(error: unknown, name: string): void {
  assert.ok(error instanceof ConnectError, `${name}: ${error}`);
  assert.equal(Code[error.code], "Unavailable", name);
  assert.match(error.rawMessage, /connect again, with the last cursor/, name);
  const [info] = error.findDetails(ErrorInfoSchema);
  assert.deepEqual([info?.reason, info?.domain], ["DRAINING", "pulsewire"], name);
  assert.equal(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds, 1n, name);
  assert.equal(error.metadata.get("retry-after"), "1", name);
}

describe("drain", () => {
  test("refuses new calls, finishes running ones and ends streams, each in its protocol", async () => {
    const signals: AbortSignal[] = [];
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    await using server = await startListener({
      routes: (router) =>
        router.service(Health, {
          async check(_, { signal }) {
            signals.push(signal);
            await finished;
            return { status: Status.SERVING };
          },
          // Does not look at its signal, as a handler should.
          async *watch() {
            yield { status: Status.SERVING };
            await new Promise(() => {});
          },
          list: () => ({}),
        }),
    });
    const calls = transports(server.url).map(([name, transport]) => {
      const client = createClient(Health, transport);
      return { name, client, unary: client.check({}), stream: Array.fromAsync(client.watch({})) };
    });
    for (const { stream } of calls) stream.catch(() => {});
    while (signals.length < calls.length) await sleep(5);

    server.shutdown();
    for (const { name, client } of calls) {
      assertDraining(await client.list({}).catch(ConnectError.from), name);
    }
    for (const { name, stream } of calls) assertDraining(await stream.catch((error) => error), name);

    const drained = server.listener.drain(10_000);
    await sleep(20);
    assert.ok(signals.every((signal) => !signal.aborted));
    finish();
    for (const { name, unary } of calls) assert.equal((await unary).status, Status.SERVING, name);
    await drained;
    assert.deepEqual([server.listener.connections(), server.listener.requests()], [0, 0]);
  });

  test("a handler may say a last word", async () => {
    await using server = await startListener();
    const client = createClient(Health, createGrpcTransport({ baseUrl: server.url }));
    const seen: Status[] = [];
    const watch = (async () => {
      for await (const { status } of client.watch({})) {
        seen.push(status);
        if (seen.length === 1) server.shutdown();
      }
    })();
    assertDraining(await watch.catch((error: unknown) => error), "watch");
    assert.deepEqual(seen, [Status.SERVING, Status.NOT_SERVING]);
  });

  test("tells HTTP/2 clients to go away, first without refusing what is under way", async () => {
    await using server = await startListener();
    using session = openSession(server.url);
    const goaway = once(session, "goaway");
    const headers = { ":path": "/grpc.health.v1.Health/Watch", "content-type": "application/grpc" };
    const watch = session.request({ ":method": "POST", ...headers }, { endStream: false });
    watch.end(Buffer.alloc(5));
    await once(watch, "response");
    const ended = watch.resume().toArray();
    const drained = server.listener.drain(5000);
    const [code, lastId] = await goaway;
    assert.deepEqual([code, lastId], [constants.NGHTTP2_NO_ERROR, 2 ** 31 - 1]);
    server.shutdown();
    await Promise.all([ended, drained]);
  });

  test("closes idle HTTP/1.1 connections, and busy ones after their answer", async () => {
    let answer = () => {};
    await using server = await startListener({
      routes: (router) =>
        router.service(Health, {
          check: () =>
            new Promise((resolve) => {
              answer = () => resolve({ status: Status.SERVING });
            }),
        }),
    });
    using silent = new RawConnection(server.port);
    using idle = new RawConnection(server.port);
    idle.socket.write("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    using busy = new RawConnection(server.port);
    busy.socket.write(
      `POST ${check} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
    );
    await idle.until(/200 OK/);
    while (server.listener.requests() < 1) await sleep(5);
    const drained = server.listener.drain(5000);
    await Promise.all([idle.closed, silent.closed]);
    await assert.rejects(fetch(`${server.url}/readyz`));
    answer();
    await Promise.all([busy.closed, drained]);
    assert.match(busy.received, /^HTTP\/1\.1 200 .*connection: close.*SERVING/is);
  });

  test("cuts off what runs after the time-out", async () => {
    await using server = await startListener({
      routes: (router) => router.service(Health, { check: () => new Promise<never>(() => {}) }),
    });
    const calls = transports(server.url).map(([, transport]) => createClient(Health, transport).check({}));
    const results = Promise.allSettled(calls);
    while (server.listener.requests() < calls.length) await sleep(5);
    await server.listener.drain(50);
    assert.ok((await results).every(({ status }) => status === "rejected"));
    assert.equal(server.listener.connections(), 0);
  });

  test("leaves nothing that keeps the process alive", async () => {
    const program = `
      import { startListener, openSession } from "./test/helpers/listener.ts";
      for (const end of ["drain", "destroy"]) {
        const server = await startListener();
        const session = openSession(server.url);
        const stream = session.request({ ":path": "/grpc.health.v1.Health/Watch", ":method": "POST", "content-type": "application/grpc" }, { endStream: false });
        stream.on("error", () => {}).resume();
        stream.end(Buffer.alloc(5));
        await (await fetch(server.url + "/readyz")).text();
        server.shutdown();
        await server.listener[end](5000);
      }`;
    const args = ["--no-warnings", "--input-type=module-typescript", "--eval", program];
    const child = spawn(process.execPath, args, {
      cwd: `${import.meta.dirname}/..`,
      stdio: ["ignore", "inherit", "inherit"],
      timeout: 10_000,
    });
    const [code] = await once(child, "exit");
    assert.equal(code, 0);
  });
});
