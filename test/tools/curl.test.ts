/** curl and buf curl, as people type them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { buf, outputOf, runTool, services } from "./tools.ts";

const ingestion = "pulsewire.ingestion.v1.IngestionService";

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.stop());

const key = () => `x-api-key: ${server.tenant.apiKey}`;

describe("curl", () => {
  for (const [version, flag] of [
    ["1.1", "--http1.1"],
    ["2", "--http2-prior-knowledge"],
  ] as const) {
    const curl = async (method: string, request: object) => {
      const options = ["-sS", flag, "-w", "\n%{http_version} %{http_code} %{content_type}"];
      const headers = ["-H", key(), "-H", "content-type: application/json"];
      const url = `${server.url}/${ingestion}/${method}`;
      const output = await outputOf("curl", ...options, ...headers, "-d", JSON.stringify(request), url);
      const [body = "", result] = output.split("\n");
      return { answer: JSON.parse(body), result };
    };

    test(`JSON over HTTP/${version}`, async () => {
      const event = { eventId: `curl-${version}`, eventType: "greeting", payload: { hello: "world" } };
      const written = await curl("IngestEvent", { event });
      assert.equal(written.result, `${version} 200 application/json`);
      assert.equal(written.answer.eventId, event.eventId);
      const read = await curl("GetEvent", { eventId: event.eventId });
      assert.deepEqual(read.answer.event.event.payload, event.payload);
    });

    test(`a refusal over HTTP/${version}`, async () => {
      const { answer, result } = await curl("IngestEvent", { event: {} });
      assert.equal(result, `${version} 400 application/json`);
      assert.equal(answer.code, "invalid_argument");
      assert.match(answer.message, /^event\.event_type: must be at least 1 char/);
      const [info, badRequest] = answer.details;
      assert.deepEqual(info.debug, { reason: "INVALID_FIELD", domain: "pulsewire" });
      assert.equal(badRequest.debug.fieldViolations[0].field, "event.event_type");
    });
  }

  test("readiness", async () => {
    const answer = await outputOf("curl", "-sSf", `${server.url}/readyz`);
    assert.deepEqual(JSON.parse(answer), { status: "ready" });
  });
});

describe("buf curl", () => {
  for (const version of ["grpc-v1", "grpc-v1alpha"]) {
    test(`--list-services with reflection ${version}`, async () => {
      const options = ["--list-services", "--http2-prior-knowledge", "--reflect-protocol", version];
      const output = await outputOf(buf, "curl", ...options, server.url);
      assert.deepEqual(output.trim().split("\n"), services);
    });
  }

  test("--list-methods", async () => {
    const output = await outputOf(buf, "curl", "--list-methods", "--http2-prior-knowledge", server.url);
    assert.ok(output.split("\n").includes(`${ingestion}/StreamEvents`));
  });

  for (const protocol of ["grpc", "grpcweb", "connect"]) {
    test(`a refusal with ${protocol}`, async () => {
      const options = ["--protocol", protocol, "-H", key(), "-d", '{"eventId":"nobody"}'];
      const { code, stderr } = await runTool(buf, "curl", ...options, `${server.url}/${ingestion}/GetEvent`);
      assert.equal(code, Code.NotFound << 3);
      assert.match(stderr, /"code": "not_found",\s+"message": "no event 'nobody' in this tenant"/);
    });
  }
});
