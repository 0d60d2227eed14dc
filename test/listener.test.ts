import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import { generate } from "selfsigned";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../server/src/gen/grpc/reflection/v1/reflection_pb.js";
import { openSession, RawConnection, request, startListener } from "./helpers/listener.ts";

const check = "/grpc.health.v1.Health/Check";
const json = { "content-type": "application/json" };
// The fourth byte of a frame is its type, and 4 is SETTINGS.
const serverSettings = new RegExp(`^...${String.fromCharCode(4)}`, "s");
const emptyMessage = Buffer.alloc(5);

type Options = { baseUrl: string; nodeOptions?: { ca: string } };

/** All ways to call that one port must serve. */
function transports(baseUrl: string, ca?: string): [string, Transport][] {
  const options: Options = { baseUrl, ...(ca && { nodeOptions: { ca } }) };
  return [
    ["Connect, HTTP/1.1", createConnectTransport({ ...options, httpVersion: "1.1" })],
    ["Connect, HTTP/2", createConnectTransport({ ...options, httpVersion: "2" })],
    ["Connect JSON", createConnectTransport({ ...options, httpVersion: "2", useBinaryFormat: false })],
    ["gRPC-Web, HTTP/1.1", createGrpcWebTransport({ ...options, httpVersion: "1.1" })],
    ["gRPC-Web, HTTP/2", createGrpcWebTransport({ ...options, httpVersion: "2" })],
    ["gRPC", createGrpcTransport(options)],
  ];
}

async function firstStatus(stream: AsyncIterable<{ status: Status }>): Promise<Status | undefined> {
  for await (const { status } of stream) return status;
  return undefined;
}

async function certificate() {
  const names = [{ name: "commonName", value: "localhost" }];
  const { cert, private: key } = await generate(names, {
    keySize: 2048,
    extensions: [
      { name: "basicConstraints", cA: true },
      { name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] },
    ],
  });
  return { cert, key };
}

describe("one port", () => {
  test("serves every protocol in cleartext, unary and streaming, and errors keep their code", async () => {
    await using server = await startListener();
    for (const [name, transport] of transports(server.url)) {
      const client = createClient(Health, transport);
      assert.equal((await client.check({})).status, Status.SERVING, name);
      assert.equal(await firstStatus(client.watch({})), Status.SERVING, name);
      const error = await client.check({ service: "none" }).catch(ConnectError.from);
      assert.ok(error instanceof ConnectError && error.code === Code.NotFound, name);
    }
  });

  test("serves the same over TLS, by ALPN", async () => {
    const { cert, key } = await certificate();
    await using server = await startListener({ tls: { cert, key } });
    for (const [name, transport] of transports(server.url, cert)) {
      assert.equal((await createClient(Health, transport).check({})).status, Status.SERVING, name);
    }
    const plain = connectTls({ port: server.port, host: "127.0.0.1", ca: cert });
    plain.write("GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    const [answer] = (await plain.setEncoding("utf8").take(1).toArray()) as string[];
    assert.match(answer ?? "", /^HTTP\/1\.1 200 OK/);
  });

  test("asks for client certificates when told to", async () => {
    const { cert, key } = await certificate();
    await using server = await startListener({ tls: { cert, key, clientCa: cert } });
    const refused = createGrpcTransport({ baseUrl: server.url, nodeOptions: { ca: cert } });
    await assert.rejects(createClient(Health, refused).check({}));
    const known = createGrpcTransport({ baseUrl: server.url, nodeOptions: { ca: cert, cert, key } });
    assert.equal((await createClient(Health, known).check({})).status, Status.SERVING);
  });

  test("keeps a TLS connection whose client sends on while a large answer leaves", async () => {
    const { cert, key } = await certificate();
    const name = "x".repeat(20_000_000);
    await using server = await startListener({
      tls: { cert, key },
      routes: (router) =>
        router.service(Health, { list: () => ({ statuses: { [name]: { status: Status.SERVING } } }) }),
    });
    const socket = connectTls({ port: server.port, host: "127.0.0.1", ca: cert });
    // Header and body in TLS records of their own, as Go sends them.
    const call = () => {
      const head = "POST /grpc.health.v1.Health/List HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n";
      socket.write(`${head}content-type: application/json\r\n\r\n`);
      socket.write("{}");
    };
    let received = 0;
    socket.once("data", call);
    socket.on("data", (chunk) => {
      received += chunk.length;
      if (received > 2 * name.length) socket.end();
    });
    call();
    await new Promise((resolve) => socket.once("close", resolve));
    assert.ok(received > 2 * name.length);
  });

  test("serves @grpc/grpc-js", async () => {
    await using server = await startListener();
    const client = new grpc.Client(`127.0.0.1:${server.port}`, grpc.credentials.createInsecure());
    const answer = await new Promise<Buffer>((resolve, reject) =>
      client.makeUnaryRequest(
        check,
        (bytes: Buffer) => bytes,
        (bytes: Buffer) => bytes,
        Buffer.alloc(0),
        (error, value) => (value ? resolve(value) : reject(error)),
      ),
    );
    assert.deepEqual([...answer], [8, 1]);
    client.close();
  });

  test("takes gzip and brotli", async () => {
    await using server = await startListener();
    for (const encoding of ["gzip", "br"]) {
      using session = openSession(server.url);
      const zlib = await import("node:zlib");
      const body = encoding === "gzip" ? zlib.gzipSync("{}") : zlib.brotliCompressSync("{}");
      const headers = { ":path": check, ":method": "POST", ...json, "content-encoding": encoding };
      assert.equal((await request(session, headers, body)).body.toString(), '{"status":"SERVING"}');
    }
  });

  test("recognises HTTP/2 and HTTP/1.1 whatever pieces the first bytes come in", async () => {
    await using server = await startListener();
    const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    const settings = Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    const get = Buffer.from("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    const post = Buffer.from("PROPFIND /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
    for (const at of [1, 2, 3, 14, 18, 23, 24]) {
      using h2 = new RawConnection(server.port);
      h2.socket.write(preface.subarray(0, at));
      await sleep(5);
      h2.socket.write(Buffer.concat([preface.subarray(at), settings]));
      await h2.until(serverSettings);
    }
    for (const [bytes, status] of [
      [get, 200],
      [post, 405],
    ] as const) {
      for (const at of [1, 2, 3, bytes.length - 1]) {
        using h1 = new RawConnection(server.port);
        h1.socket.write(bytes.subarray(0, at));
        await sleep(5);
        h1.socket.write(bytes.subarray(at));
        await h1.until(new RegExp(`^HTTP/1.1 ${status}`));
      }
    }
  });

  test("hands what is no call to the fallback", async () => {
    await using server = await startListener();
    const response = await fetch(`${server.url}/v1/functions`);
    assert.deepEqual([response.status, await response.text()], [404, "fallback"]);
  });
});

describe("refusals", () => {
  const cases = [
    { title: "unknown method", path: "/grpc.health.v1.Health/Chek", hint: /did you mean Check\?/ },
    {
      title: "unknown service",
      path: "/grpc.health.v2.Health/Check",
      hint: /did you mean grpc\.health\.v1\.Health\?/,
    },
    { title: "wildly unknown", path: "/a.B/C", hint: /unknown service a\.B$/ },
  ];
  for (const { title, path, hint } of cases) {
    test(`${title}: UNIMPLEMENTED in each protocol`, async () => {
      await using server = await startListener();
      const [, service = "", method = ""] = path.split("/");
      const { check: known } = Health.method;
      const wrong = { ...known, name: method, parent: { ...Health, typeName: service } } as typeof known;
      for (const [name, transport] of transports(server.url)) {
        const error = await transport.unary(wrong, undefined, 1000, undefined, {}).catch(ConnectError.from);
        assert.ok(error instanceof ConnectError, name);
        assert.equal(error.code, Code.Unimplemented, name);
        assert.match(error.rawMessage, hint, name);
      }
      const response = await fetch(server.url + path, { method: "POST", headers: json, body: "{}" });
      assert.equal(response.status, 404);
    });
  }

  test("gRPC is refused with trailers only", async () => {
    await using server = await startListener();
    using session = openSession(server.url);
    const headers = { ":path": "/a.B/C", ":method": "POST", "content-type": "application/grpc" };
    const answer = await request(session, headers, emptyMessage);
    assert.deepEqual([answer.status, answer.body.length], [200, 0]);
    assert.equal(answer.headers["grpc-status"], String(Code.Unimplemented));
    assert.equal(answer.headers["content-type"], "application/grpc");
  });

  test("wrong HTTP method: 405 with Allow", async () => {
    await using server = await startListener();
    for (const method of ["GET", "PUT", "HEAD"]) {
      const response = await fetch(server.url + check, { method });
      assert.deepEqual([response.status, response.headers.get("allow")], [405, "POST"]);
    }
  });

  test("wrong or missing content type: 415 that says what works", async () => {
    await using server = await startListener();
    for (const type of ["text/plain", "application/grpc+thrift", "application/grpc-web-text", undefined]) {
      const headers = new Headers(type === undefined ? {} : { "content-type": type });
      const response = await fetch(server.url + check, { method: "POST", body: Buffer.from("{}"), headers });
      assert.equal(response.status, 415);
      assert.match(response.headers.get("accept-post") ?? "", /^application\/json, application\/proto, /);
      const body = (await response.json()) as { code: string; message: string };
      assert.match(
        body.message,
        new RegExp(`${type?.replace("+", "\\+") ?? "no content-type"}.*use application/json`),
      );
    }
    const watch = `${server.url}/grpc.health.v1.Health/Watch`;
    const response = await fetch(watch, { method: "POST", headers: json, body: "{}" });
    assert.match(await response.text(), /use application\/connect\+json because it streams/);
  });

  test("unknown encoding: UNIMPLEMENTED, with those that work", async () => {
    await using server = await startListener();
    using session = openSession(server.url);
    const post = { ":path": check, ":method": "POST" };
    const asGrpc = { ...post, "content-type": "application/grpc", "grpc-encoding": "zstd" };
    const grpcAnswer = await request(session, asGrpc, emptyMessage);
    assert.equal(grpcAnswer.headers["grpc-status"], String(Code.Unimplemented));
    assert.equal(grpcAnswer.headers["grpc-accept-encoding"], "gzip,br");
    const asJson = { ...post, ...json, "content-encoding": "zstd" };
    const jsonAnswer = await request(session, asJson, "{}");
    assert.deepEqual([jsonAnswer.status, jsonAnswer.headers["accept-encoding"]], [501, "gzip,br"]);
  });

  test("streams in both directions over HTTP/1.1: refused at once, with the reason", async () => {
    await using server = await startListener();
    const transport = createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" });
    const stream = createClient(ServerReflection, transport).serverReflectionInfo(
      (async function* () {
        yield { messageRequest: { case: "listServices" as const, value: "" } };
      })(),
    );
    await assert.rejects(Array.fromAsync(stream), /need HTTP\/2/);
  });

  test("unknown JSON fields and bad JSON: INVALID_ARGUMENT that names the field", async () => {
    await using server = await startListener();
    for (const [body, message] of [
      ['{"servise":""}', /servise/],
      ["{", /JSON/],
      ['{"service":1}', /service/],
    ] as const) {
      const response = await fetch(server.url + check, { method: "POST", headers: json, body });
      const error = (await response.json()) as { code: string; message: string };
      assert.deepEqual([response.status, error.code], [400, "invalid_argument"]);
      assert.match(error.message, message);
    }
  });

  test("a request without a valid host is answered, not fatal", async () => {
    await using server = await startListener();
    for (const host of ["", "host: a b\r\n"]) {
      using raw = new RawConnection(server.port);
      raw.socket.write(
        `POST ${check} HTTP/1.0\r\n${host}content-type: application/json\r\ncontent-length: 2\r\n\r\n{}`,
      );
      await raw.until(/^HTTP\/1\.1 400.*no valid host/s);
    }
  });
});

describe("CORS", () => {
  const preflight = {
    origin: "https://app.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,x-api-key",
    "access-control-request-private-network": "true",
  };

  test("grants what browsers need to the listed origins only", async () => {
    await using server = await startListener({ corsOrigins: ["https://app.example"] });
    const granted = await fetch(server.url + check, { method: "OPTIONS", headers: preflight });
    assert.equal(granted.status, 204);
    assert.equal(granted.headers.get("access-control-allow-origin"), "https://app.example");
    assert.equal(granted.headers.get("vary"), "origin");
    const allowed = (granted.headers.get("access-control-allow-headers") ?? "").split(", ");
    for (const name of [
      "content-type",
      "x-api-key",
      "authorization",
      "x-grpc-web",
      "connect-protocol-version",
    ]) {
      assert.ok(allowed.includes(name), name);
    }
    assert.equal(granted.headers.get("access-control-allow-private-network"), null);
    assert.equal(granted.headers.get("access-control-allow-credentials"), null);

    const refused = await fetch(server.url + check, {
      method: "OPTIONS",
      headers: { ...preflight, origin: "https://evil.example" },
    });
    assert.deepEqual([refused.status, refused.headers.get("access-control-allow-origin")], [403, null]);
  });

  test("exposes status and limits on answers, also on refusals", async () => {
    await using server = await startListener({ corsOrigins: ["*"] });
    for (const path of [check, "/a.B/C"]) {
      const headers = { ...json, origin: "https://app.example" };
      const response = await fetch(server.url + path, { method: "POST", headers, body: "{}" });
      assert.equal(response.headers.get("access-control-allow-origin"), "*");
      const exposed = response.headers.get("access-control-expose-headers") ?? "";
      assert.match(exposed, /grpc-status, grpc-message.*retry-after/);
    }
  });
});
