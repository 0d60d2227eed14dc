/** grpcurl without any proto file: what it needs to know, it learns from the server. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { grpcurl, outputOf, runTool, services } from "./tools.ts";

const ingestion = "pulsewire.ingestion.v1.IngestionService";

let server: TestServer;
let address: string;
let withKey: string[];
before(async () => {
  server = await startTestServer();
  address = `127.0.0.1:${server.port}`;
  withKey = ["-H", `x-api-key: ${server.tenant.apiKey}`];
});
after(() => server.stop());

const run = (...args: string[]) => outputOf(grpcurl.path, "-plaintext", ...args);
const call = async (method: string, request: object) =>
  JSON.parse(await run(...withKey, "-d", JSON.stringify(request), address, method));
const lines = (text: string) => text.trim().split("\n");

describe("list", () => {
  test("services", async () => assert.deepEqual(lines(await run(address, "list")), services));
  test("methods of a service", async () => {
    const methods = lines(await run(address, "list", "grpc.health.v1.Health"));
    assert.deepEqual(
      methods,
      ["Check", "List", "Watch"].map((name) => `grpc.health.v1.Health.${name}`),
    );
  });
});

describe("describe", () => {
  test("a service, with its streams", async () => {
    const text = await run(address, "describe", ingestion);
    assert.match(
      text,
      /^pulsewire\.ingestion\.v1\.IngestionService is a service:\nservice IngestionService \{/,
    );
    assert.match(text, /rpc WatchEvents \( \.\S+Request \) returns \( stream \.\S+Response \)/);
  });
  test("a method, with who may call it", async () => {
    const text = await run(address, "describe", `${ingestion}.IngestEvent`);
    assert.match(text, /rpc IngestEvent \( \.pulsewire\.ingestion\.v1\.IngestEventRequest \)/);
    assert.match(text, /access\) = \{ scopes: \{ any_of: \[ SCOPE_EVENTS_WRITE \] \} \}/);
    assert.match(text, /post: "\/v1\/events"/);
  });
  test("a message, with its rules", async () => {
    const text = await run(address, "describe", "pulsewire.ingestion.v1.Event");
    assert.match(text, /string event_id = 1 \[/);
    assert.match(text, /google\.protobuf\.Struct payload = 10;/);
    assert.match(text, /\(\.buf\.validate\.field\) = \{ int32: \{ (gte: 0, lte: 10|lte: 10, gte: 0) \} \}/);
  });
  test("an enum", async () => {
    const text = await run(address, "describe", "pulsewire.ingestion.v1.Severity");
    assert.match(text, /SEVERITY_CRITICAL = 5;/);
  });
});

describe("calls", () => {
  test("an event is written and read back", async () => {
    const event = { eventId: "from-grpcurl", eventType: "greeting", payload: { hello: ["world", 1, null] } };
    const { eventId, duplicate } = await call(`${ingestion}/IngestEvent`, { event });
    assert.equal(eventId, event.eventId);
    assert.equal(duplicate, undefined);
    const stored = await call(`${ingestion}/GetEvent`, { eventId });
    assert.deepEqual({ ...stored.event.event, ...event }, stored.event.event);
  });

  test("a refusal has its code, its message and readable details", async () => {
    const request = JSON.stringify({ event: {} });
    const { code, stderr } = await runTool(
      grpcurl.path,
      "-plaintext",
      ...withKey,
      "-d",
      request,
      address,
      `${ingestion}/IngestEvent`,
    );
    assert.equal(code, 64 + Code.InvalidArgument);
    assert.match(stderr, /Code: InvalidArgument\n\s+Message: event\.event_type: must be at least 1 char/);
    assert.match(stderr, /"reason": ?"INVALID_FIELD"/);
    assert.match(stderr, /"field": ?"event\.event_type"/);
  });

  test("without a key", async () => {
    const { code, stderr } = await runTool(grpcurl.path, "-plaintext", address, `${ingestion}/ListEvents`);
    assert.equal(code, 64 + Code.Unauthenticated);
    assert.match(stderr, /Code: Unauthenticated\n\s+Message: credentials are missing/);
  });
});

describe("health", () => {
  test("Check", async () => {
    for (const service of ["", ingestion]) {
      assert.deepEqual(await call("grpc.health.v1.Health/Check", { service }), { status: "SERVING" });
    }
  });
  test("Watch", async () => {
    const watch = spawn(grpcurl.path, ["-plaintext", address, "grpc.health.v1.Health/Watch"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const closed = once(watch, "close");
    let seen = "";
    for await (const chunk of watch.stdout) {
      seen += chunk;
      if (seen.includes("}")) break;
    }
    watch.kill();
    await closed;
    assert.deepEqual(JSON.parse(seen), { status: "SERVING" });
  });
});

for (const version of ["v1", "v1alpha"]) {
  test(`reflection ${version}`, async () => {
    const method = `grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const { listServicesResponse } = await call(method, { listServices: "" });
    assert.deepEqual(
      listServicesResponse.service.map(({ name }: { name: string }) => name),
      services,
    );
    const { errorResponse } = await call(method, { fileContainingSymbol: "pulsewire.Nothing" });
    assert.equal(errorResponse.errorCode, Code.NotFound);
    assert.match(errorResponse.errorMessage, /pulsewire\.Nothing not found/);
  });
}
