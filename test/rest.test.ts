/** Pulsewire's own REST: transcoding, HTTP's rules, problems, streams, OpenAPI. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { brotliDecompressSync, gzipSync } from "node:zlib";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { contractServices } from "../server/src/services.ts";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";
import { serve, startTestServer, type TestServer } from "./helpers/server.ts";

describe("REST", () => {
  let server: TestServer;
  let call: ReturnType<typeof restClient>;
  let anonymous: ReturnType<typeof restClient>;

  before(async () => {
    server = await startTestServer();
    call = restClient(server.url, { "x-api-key": server.tenant.apiKey });
    anonymous = restClient(server.url);
  });
  after(() => server.stop());

  test("a resource is made with 201, read, changed and removed", async () => {
    const made = await call("POST", "/v1/stores", { name: "Berlin", labels: { region: "eu" } });
    assert.equal(made.status, 201);
    const { id } = objectOf(made).store as { id: string };
    const found = await call("GET", `/v1/stores/${id}`);
    assert.equal(found.status, 200);
    assert.equal((objectOf(found).store as { name: string }).name, "Berlin");
    const listed = await call("GET", "/v1/stores?page_size=1");
    assert.equal((objectOf(listed).stores as unknown[]).length, 1);
  });

  test("query parameters: nested, repeated, enum words, either spelling; an unknown one is refused with a hint", async () => {
    for (const eventType of ["a", "b", "c"]) {
      const sent = await call("POST", "/v1/events", { eventType, severity: "SEVERITY_ERROR", userId: "u/1" });
      assert.equal(sent.status, 200);
    }
    const path =
      "/v1/events?filter.event_types=a&filter.eventTypes=b&filter.min_severity=error&oldest_first=true";
    const listed = await call("GET", path);
    const types = (objectOf(listed).events as { event: { eventType: string } }[]).map(
      ({ event }) => event.eventType,
    );
    assert.deepEqual(types, ["a", "b"]);
    for (const [query, field, hint] of [
      ["page_siz=1", "page_siz", /did you mean pageSize/],
      ["page_size=many", "page_size", /whole number/],
      ["page_size=1&page_size=2", "page_size", /twice/],
      ["filter.min_severity=loud", "filter.min_severity", /SEVERITY_INFO/],
      ["filter=x", "filter", /give its fields/],
      ["oldest_first=perhaps", "oldest_first", /true or false/],
    ] as const) {
      const refused = await call("GET", `/v1/events?${query}`);
      assert.equal(refused.status, 400, query);
      assert.equal(refused.headers.get("content-type"), "application/problem+json");
      const [violation] = objectOf(refused).violations as { field: string; description: string }[];
      assert.equal(violation?.field, field);
      assert.match(violation?.description ?? "", hint);
    }
  });

  test("problems tell reason, field and rule", async () => {
    const invalid = await call("POST", "/v1/events", { eventType: "" });
    assert.equal(invalid.status, 400);
    assertShape(invalid.body, {
      type: "urn:pulsewire:problem:INVALID_FIELD",
      title: "Bad Request",
      status: 400,
      detail: "…",
      instance: "/v1/events",
      code: "INVALID_ARGUMENT",
      reason: "INVALID_FIELD",
      metadata: {},
      violations: [{ field: "event.event_type", description: "…", rule: "string.min_len" }],
    });
    const unknown = await call("POST", "/v1/events", { eventType: "x", eventTyp: "y" });
    assert.equal(unknown.status, 400);
    assert.match(String(objectOf(unknown).detail), /eventTyp/);
    const missing = await call("GET", "/v1/events/none");
    assert.deepEqual([missing.status, objectOf(missing).reason], [404, "NOT_FOUND"]);
    const locked = await anonymous("GET", "/v1/events");
    assert.equal(locked.status, 401);
    assert.match(locked.headers.get("www-authenticate") ?? "", /Bearer/);
    const nowhere = await call("GET", "/v1/nowhere");
    assert.deepEqual(
      [nowhere.status, nowhere.headers.get("content-type")],
      [404, "application/problem+json"],
    );
  });

  test("HTTP's own refusals: 400, 405, 406, 413, 415", async () => {
    const json = { "content-type": "application/json" };
    const raw = (init: RequestInit & { path?: string }) =>
      fetch(server.url + (init.path ?? "/v1/events"), {
        method: "POST",
        ...init,
        headers: { "x-api-key": server.tenant.apiKey, ...json, ...(init.headers as Record<string, string>) },
      });
    const wrongMethod = await raw({ method: "PUT", body: "{}" });
    assert.deepEqual(
      [wrongMethod.status, wrongMethod.headers.get("allow")],
      [405, "GET, POST, HEAD, OPTIONS"],
    );
    assert.equal((await raw({ body: "{}", headers: { "content-type": "text/plain" } })).status, 415);
    assert.equal((await raw({ body: "{}", headers: { "content-encoding": "zstd" } })).status, 415);
    assert.equal((await raw({ body: "{}", headers: { accept: "text/html" } })).status, 406);
    assert.equal((await raw({ body: "{" })).status, 400);
    assert.equal((await raw({ body: "[]", path: "/v1/events:batch" })).status, 400);
    assert.equal((await raw({ body: "x".repeat(17 * 1024 * 1024) })).status, 413);
    const bomb = gzipSync(`{"eventType":"${"x".repeat(20 * 1024 * 1024)}"}`);
    assert.equal((await raw({ body: bomb, headers: { "content-encoding": "gzip" } })).status, 413);
    assert.equal((await raw({ path: "/v1/events/%ff", method: "GET" })).status, 400);
    const options = await fetch(`${server.url}/v1/events`, { method: "OPTIONS" });
    assert.deepEqual([options.status, options.headers.get("allow")], [204, "GET, POST, HEAD, OPTIONS"]);
  });

  test("404 and 429 in the words of every dialect, with the headers that say when to come back", async () => {
    for (const [path, fields] of [
      ["/v1/none", ["detail", "instance", "status", "title", "type"]],
      ["/api/v1/ingestion/none", ["detail"]],
      ["/api/v1/events/none/at/all", ["error", "success"]],
      ["/v1/functions/a/b/c", ["error", "message"]],
      ["/clients/none", ["error"]],
    ] as const) {
      const answer = await call("GET", path);
      assert.deepEqual([answer.status, Object.keys(objectOf(answer)).sort()], [404, [...fields]], path);
    }
    await using limited = await serve(server.database, {
      PULSEWIRE_AUTH_RATE_LIMIT: "1",
      PULSEWIRE_DEVELOPMENT_TOKENS: "on",
    });
    const often = restClient(limited.url);
    await often("POST", "/auth/token", { user_id: "alice" });
    for (const [path, body, field] of [
      ["/v1/auth/login", { email: "a@b.example", password: "x", tenantSlug: "first" }, "reason"],
      ["/api/v1/auth/login", { email: "a@b.example", password: "x", tenant_slug: "first" }, "detail"],
      ["/api/auth/request-code", { email: "a@b.example" }, "error"],
      ["/auth/token", { user_id: "alice" }, "message"],
    ] as const) {
      const answer = await often("POST", path, body);
      assert.equal(answer.status, 429, path);
      assert.ok(field in objectOf(answer), path);
      assert.ok(Number(answer.headers.get("retry-after")) > 0, path);
      assert.match(answer.headers.get("ratelimit") ?? "", /auth-address/, path);
    }
  });

  test("request id and trace come back, also with an error", async () => {
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const headers = { "x-request-id": "mine", traceparent };
    for (const [path, status] of [
      ["/v1/events?page_size=1", 200],
      ["/v1/events/none", 404],
    ] as const) {
      const answer = await call("GET", path, undefined, headers);
      assert.equal(answer.status, status);
      assert.equal(answer.headers.get("x-request-id"), "mine");
      assert.match(
        answer.headers.get("traceresponse") ?? "",
        /^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$/,
      );
    }
  });

  test("compressed requests and answers, HEAD, and a second read that changed nothing", async () => {
    const body = gzipSync(JSON.stringify({ eventType: "zipped", title: "t".repeat(400) }));
    const sent = await fetch(`${server.url}/v1/events`, {
      method: "POST",
      headers: {
        "x-api-key": server.tenant.apiKey,
        "content-type": "application/json",
        "content-encoding": "gzip",
      },
      body,
    });
    assert.equal(sent.status, 200);
    for (let count = 0; count < 5; count++)
      await call("POST", "/v1/events", { eventType: "z", title: "t".repeat(400) });
    const { request } = await import("node:http");
    const bytes = await new Promise<{ encoding: string | undefined; body: Buffer }>((resolve, reject) => {
      const req = request(
        `${server.url}/v1/events?filter.event_types=z`,
        { headers: { "x-api-key": server.tenant.apiKey, "accept-encoding": "br" } },
        (res) => {
          const chunks: Buffer[] = [];
          res.on("data", (chunk) => chunks.push(chunk));
          res.on("end", () =>
            resolve({ encoding: res.headers["content-encoding"], body: Buffer.concat(chunks) }),
          );
        },
      );
      req.on("error", reject);
      req.end();
    });
    assert.equal(bytes.encoding, "br");
    assert.equal(JSON.parse(brotliDecompressSync(bytes.body).toString()).events.length, 5);

    const first = await call("GET", "/v1/events?filter.event_types=a");
    const etag = first.headers.get("etag") ?? "";
    const again = await call("GET", "/v1/events?filter.event_types=a", undefined, { "if-none-match": etag });
    assert.deepEqual([again.status, again.body], [304, undefined]);
    const head = await call("HEAD", "/v1/events?filter.event_types=a");
    assert.deepEqual([head.status, head.body, head.headers.get("etag")], [200, undefined, etag]);
  });

  test("a whole batch in the body, a request id that makes a repetition harmless", async () => {
    const batch = await call("POST", "/v1/events:batch", {
      events: [{ eventType: "x" }, { eventType: "y" }],
    });
    assert.deepEqual((objectOf(batch).counts as { accepted: number }).accepted, 2);
    const key = crypto.randomUUID();
    const make = () => call("POST", "/v1/stores", { name: "Once" }, { "idempotency-key": key });
    const [first, second] = [await make(), await make()];
    assert.deepEqual(first.body, second.body);
    assert.equal(second.headers.get("idempotent-replayed"), "true");
  });

  test("the OpenAPI document is valid, complete, and every answer fits it", async () => {
    const { body, status } = await anonymous("GET", "/openapi.json");
    assert.equal(status, 200);
    const document = body as unknown as OpenApi;
    assert.equal(document.openapi, "3.1.0");
    const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
    const ids = operations.map(({ operationId }) => operationId);
    assert.equal(new Set(ids).size, ids.length, "operation ids must differ");
    for (const { methods, name } of contractServices) {
      for (const method of methods as readonly { name: string }[]) {
        const served = ids.some((id) => id.startsWith(`${name}_${method.name}`));
        assert.ok(served || method.name === "StreamEvents", `${method.name} has no path`);
      }
    }
    for (const { summary, operationId } of operations) assert.ok(summary, `${operationId} has no summary`);

    const ajv = new Ajv2020({ strict: false, validateFormats: true });
    addFormats.default(ajv);
    ajv.addSchema({ $id: "doc", ...document });
    const listed = await call("GET", "/v1/events");
    const schema = document.paths["/v1/events"]?.get?.responses["200"]?.content["application/json"]?.schema;
    const validate = ajv.compile({ $id: "answer", ...inDocument(schema) });
    assert.ok(validate(listed.body), JSON.stringify(validate.errors));
  });

  test("the docs page and its parts are served here", async () => {
    const page = await anonymous("GET", "/docs");
    assert.equal(page.status, 200);
    assert.doesNotMatch(String(page.body), /https?:\/\//);
    for (const part of String(page.body).matchAll(/(?:src|href)="([^"]+)"/g)) {
      assert.equal((await fetch(`${server.url}${part[1]}`)).status, 200, String(part[1]));
    }
    assert.equal((await anonymous("GET", "/docs/../package.json")).status, 404);
    assert.equal((await anonymous("POST", "/docs", {})).status, 405);
  });
});

interface OpenApi {
  readonly openapi: string;
  readonly paths: Record<
    string,
    Record<
      string,
      {
        readonly operationId: string;
        readonly summary: string;
        readonly responses: Record<string, { readonly content: Record<string, { readonly schema: object }> }>;
      }
    >
  >;
}

/** A schema whose references lead into the document. */
function inDocument(schema: object | undefined): object {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/', '"doc#/'));
}
