/** One port, every client that speaks to it: each writes, reads back what it wrote, and watches where it can. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import tls from "node:tls";
import { promisify } from "node:util";
import {
  type DescMethodUnary,
  fromJson,
  type JsonObject,
  type MessageShape,
  toJson,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { generate } from "selfsigned";
import { layOutProtoDeps, protoDepsDir } from "../scripts/proto-deps.ts";
import {
  Health,
  HealthCheckResponse_ServingStatus as Status,
} from "../server/src/gen/grpc/health/v1/health_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { startTestServer, type TestServer, type TestTenant } from "./helpers/server.ts";

const run = promisify(execFile);
const root = path.join(import.meta.dirname, "..");

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.stop());

/** One unary call in the JSON form of its messages, whatever the client. */
type Call = (method: DescMethodUnary, request: JsonObject) => Promise<JsonObject>;

/** Writes an event and a sample of a new store, and reads both back. */
async function roundTrip(call: Call): Promise<void> {
  const event = {
    eventId: `order-${randomUUID()}`,
    eventType: "order.placed",
    title: "Größe — 大",
    severity: "SEVERITY_WARNING",
    source: { service: "shop", endpoint: "/orders" },
    metrics: { total: 12.5 },
    payload: { items: [1, "two", null, { nested: true }] },
    userId: "u-1",
    timestamp: "2026-01-02T03:04:05.678Z",
    priority: 7,
  };
  const ingested = await call(IngestionService.method.ingestEvent, { event });
  assert.equal(ingested.eventId, event.eventId);
  const stored = await call(IngestionService.method.getEvent, { eventId: event.eventId });
  assert.deepEqual((stored.event as JsonObject).event, event);

  const created = await call(MetricsService.method.createStore, { name: `store ${randomUUID()}` });
  const storeId = (created.store as { id: string }).id;
  const timeMs = Date.now();
  const sample = {
    name: "temperature",
    value: 21.5,
    labels: { room: "cold" },
    unit: "°C",
    timestamp: new Date(timeMs).toISOString(),
  };
  const written = await call(MetricsService.method.writeSamples, { storeId, samples: [sample] });
  assert.deepEqual(written, { counts: { total: 1, accepted: 1 }, newSeries: 1 });
  const queried = await call(MetricsService.method.querySamples, {
    storeId,
    end: new Date(timeMs + 1).toISOString(),
  });
  assert.deepEqual(queried.series, [
    {
      storeId,
      name: "temperature",
      labels: { room: "cold" },
      kind: "METRIC_KIND_GAUGE",
      unit: "°C",
      timestampsMs: [timeMs],
      values: [21.5],
    },
  ]);
}

const callVia =
  (transport: Transport, { tenant }: TestServer): Call =>
  async (method, request) => {
    const client = createClient(method.parent, transport) as Record<string, UnaryCall | undefined>;
    const response = await client[method.localName]?.(fromJson(method.input, request), {
      headers: keyOf(tenant),
    });
    return toJson(method.output, response as MessageShape<typeof method.output>) as JsonObject;
  };
type UnaryCall = (request: unknown, options: { headers: Record<string, string> }) => Promise<unknown>;

const keyOf = ({ apiKey }: TestTenant) => ({ "x-api-key": apiKey });

/** Opens a watch, takes its first message and leaves: the stream would never end by itself. */
async function watchOnce(transport: Transport): Promise<void> {
  const cancel = new AbortController();
  const statuses: Status[] = [];
  for await (const { status } of createClient(Health, transport).watch({}, { signal: cancel.signal })) {
    statuses.push(status);
    break;
  }
  cancel.abort();
  assert.deepEqual(statuses, [Status.SERVING]);
}

describe("@connectrpc/connect-node", () => {
  const transports: Record<string, (baseUrl: string, sessionManager: Http2SessionManager) => Transport> = {
    "gRPC, binary": (baseUrl, sessionManager) => createGrpcTransport({ baseUrl, sessionManager }),
    "gRPC, JSON": (baseUrl, sessionManager) =>
      createGrpcTransport({ baseUrl, sessionManager, useBinaryFormat: false }),
  };
  for (const useBinaryFormat of [true, false]) {
    const format = useBinaryFormat ? "binary" : "JSON";
    const options = { useBinaryFormat, acceptCompression: [] };
    transports[`gRPC-Web, ${format}, HTTP/1.1`] = (baseUrl) =>
      createGrpcWebTransport({ ...options, baseUrl, httpVersion: "1.1" });
    transports[`gRPC-Web, ${format}, HTTP/2`] = (baseUrl, sessionManager) =>
      createGrpcWebTransport({ ...options, baseUrl, httpVersion: "2", sessionManager });
    transports[`Connect, ${format}, HTTP/1.1`] = (baseUrl) =>
      createConnectTransport({ ...options, baseUrl, httpVersion: "1.1" });
    transports[`Connect, ${format}, HTTP/2`] = (baseUrl, sessionManager) =>
      createConnectTransport({ ...options, baseUrl, httpVersion: "2", sessionManager });
  }
  transports["Connect, binary, HTTP/2, GET and compression"] = (baseUrl, sessionManager) =>
    createConnectTransport({ baseUrl, httpVersion: "2", sessionManager, useHttpGet: true });

  for (const [name, create] of Object.entries(transports)) {
    test(name, async (t) => {
      const sessions = new Http2SessionManager(server.url);
      t.after(() => sessions.abort());
      const transport = create(server.url, sessions);
      await roundTrip(callVia(transport, server));
      await watchOnce(transport);
    });
  }
});

describe("@connectrpc/connect-web", () => {
  for (const useBinaryFormat of [true, false]) {
    const format = useBinaryFormat ? "binary" : "JSON";
    for (const [name, create] of [
      ["Connect", web.createConnectTransport],
      ["gRPC-Web", web.createGrpcWebTransport],
    ] as const) {
      test(`${name}, ${format}`, async () => {
        const transport = create({ baseUrl: server.url, useBinaryFormat });
        await roundTrip(callVia(transport, server));
        await watchOnce(transport);
      });
    }
  }
});

const urlOf = (method: DescMethodUnary, { url }: TestServer) =>
  `${url}/${method.parent.typeName}/${method.name}`;

const postJson =
  (to: TestServer): Call =>
  async (method, request) => {
    const headers = { ...keyOf(to.tenant), "content-type": "application/json" };
    const body = JSON.stringify(request);
    return await readJson(await fetch(urlOf(method, to), { method: "POST", headers, body }));
  };

async function readJson(response: Response): Promise<JsonObject> {
  assert.equal(response.status, 200, await response.clone().text());
  assert.equal(response.headers.get("content-type"), "application/json");
  return (await response.json()) as JsonObject;
}

describe("plain fetch", () => {
  const getJson: Call = async (method, request) => {
    const query = new URLSearchParams({ encoding: "json", message: JSON.stringify(request), connect: "v1" });
    const url = `${urlOf(method, server)}?${query}`;
    return await readJson(await fetch(url, { headers: keyOf(server.tenant) }));
  };

  test("POST with JSON", () => roundTrip(postJson(server)));
  test("GET for what has no side effects, POST for the rest", () =>
    roundTrip((method, request) => {
      const reads = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
      return (reads ? getJson : postJson(server))(method, request);
    }));
});

describe("@grpc/grpc-js with @grpc/proto-loader", () => {
  test("unary calls and a stream", (t) => grpcJsRound(t, server, grpc.credentials.createInsecure()));
});

/** The same round in the words of a grpc-js user: our proto files, loaded as they are. */
async function grpcJsRound(
  t: TestContext,
  { port, tenant }: TestServer,
  credentials: grpc.ChannelCredentials,
): Promise<void> {
  if (!existsSync(protoDepsDir)) layOutProtoDeps();
  const loaded = loadSync(
    [
      "pulsewire/ingestion/v1/ingestion_service.proto",
      "pulsewire/metrics/v1/metrics_service.proto",
      "grpc/health/v1/health.proto",
    ],
    { includeDirs: [path.join(root, "proto"), protoDepsDir], longs: Number, enums: String, defaults: true },
  );
  // With TLS, grpc-js takes no IP address on this Node: it would send it as the server's name.
  const address = `localhost:${port}`;
  // biome-ignore lint/suspicious/noExplicitAny: what is loaded at run time has no types
  const { pulsewire, grpc: standard } = grpc.loadPackageDefinition(loaded) as any;
  const metadata = grpc.Metadata.fromHttp2Headers(keyOf(tenant));
  const open = (Service: grpc.ServiceClientConstructor) => {
    const client = new Service(address, credentials);
    t.after(() => client.close());
    // biome-ignore lint/suspicious/noExplicitAny: as above
    return (method: string, request: object): Promise<any> =>
      new Promise((resolve, reject) => {
        client[method]?.(request, metadata, (error: Error | null, response: unknown) =>
          error ? reject(error) : resolve(response),
        );
      });
  };

  const ingestion = open(pulsewire.ingestion.v1.IngestionService);
  const eventId = `order-${randomUUID()}`;
  const event = { eventId, eventType: "order.placed", severity: "SEVERITY_ERROR", metrics: { total: 12.5 } };
  assert.equal((await ingestion("ingestEvent", { event })).duplicate, false);
  assert.equal((await ingestion("ingestEvent", { event })).duplicate, true);
  const stored = (await ingestion("getEvent", { eventId })).event.event;
  assert.deepEqual({ ...stored, ...event }, stored);

  const metrics = open(pulsewire.metrics.v1.MetricsService);
  const { store } = await metrics("createStore", { name: `store ${eventId}` });
  const seconds = Math.floor(Date.now() / 1000) - 60;
  const series = [{ name: "load", baseTime: { seconds }, offsetsMs: [0, 1500], values: [0.25, 0.5] }];
  const written = await metrics("writeSamples", { storeId: store.id, series });
  assert.equal(written.counts.accepted, 2);
  const queried = await metrics("querySamples", { storeId: store.id });
  assert.deepEqual(queried.series[0].timestampsMs, [seconds * 1000, seconds * 1000 + 1500]);
  assert.deepEqual(queried.series[0].values, [0.25, 0.5]);

  const health = new standard.health.v1.Health(address, credentials);
  t.after(() => health.close());
  const watch = health.watch({});
  const [first] = await new Promise<[{ status: string }]>((resolve, reject) => {
    watch.once("data", (message: { status: string }) => resolve([message]));
    watch.once("error", reject);
  });
  assert.equal(first.status, "SERVING");
  const ended = new Promise<{ code: number }>((resolve) => watch.once("error", resolve));
  watch.cancel();
  assert.equal((await ended).code, grpc.status.CANCELLED);
}

describe("buf curl, with nothing but server reflection", () => {
  const buf = path.join(root, "node_modules/.bin/buf");
  for (const args of [
    ["--protocol", "grpc", "--http2-prior-knowledge"],
    ["--protocol", "grpcweb"],
    ["--protocol", "connect"],
  ]) {
    test(args.join(" "), () =>
      roundTrip(async (method, request) => {
        const header = `x-api-key: ${server.tenant.apiKey}`;
        const rest = ["-H", header, "-d", JSON.stringify(request), urlOf(method, server)];
        const { stdout } = await run(buf, ["curl", ...args, ...rest]);
        return JSON.parse(stdout) as JsonObject;
      }),
    );
  }
});

describe("over TLS", () => {
  const trusted = tls.getCACertificates("default");
  let secure: TestServer;
  let certificate: string;

  before(async () => {
    const folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-tls-"));
    after(() => rm(folder, { recursive: true, force: true }));
    const altNames = [
      { type: 7, ip: "127.0.0.1" },
      { type: 2, value: "localhost" },
    ] as const;
    const made = await generate([{ name: "commonName", value: "pulsewire test" }], {
      extensions: [{ name: "subjectAltName", altNames: [...altNames] }],
    });
    certificate = made.cert;
    const files = { cert: path.join(folder, "cert.pem"), key: path.join(folder, "key.pem") };
    await writeFile(files.cert, made.cert);
    await writeFile(files.key, made.private);
    tls.setDefaultCACertificates([...trusted, certificate]);
    secure = await startTestServer({
      PULSEWIRE_TLS_CERT_FILE: files.cert,
      PULSEWIRE_TLS_KEY_FILE: files.key,
    });
  });
  after(async () => {
    await secure.stop();
    tls.setDefaultCACertificates(trusted);
  });

  test("gRPC", async (t) => {
    const sessionManager = new Http2SessionManager(secure.url);
    t.after(() => sessionManager.abort());
    const transport = createGrpcTransport({ baseUrl: secure.url, sessionManager });
    await roundTrip(callVia(transport, secure));
    await watchOnce(transport);
  });
  test("JSON over HTTP/1.1", () => roundTrip(postJson(secure)));
  test("grpc-js", (t) => grpcJsRound(t, secure, grpc.credentials.createSsl(Buffer.from(certificate))));
});
