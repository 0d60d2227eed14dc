/** EventFlow's documented calls. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";

/** On an outside database the series are for whoever has this. */
const metricsToken = "a-token-for-Prometheus";

describe("EventFlow over REST", () => {
  let server: TestServer;
  let anonymous: ReturnType<typeof restClient>;
  let call: ReturnType<typeof restClient>;

  before(async () => {
    server = await startTestServer({
      PULSEWIRE_DEVELOPMENT_TOKENS: "on",
      PULSEWIRE_METRICS_TOKEN: metricsToken,
    });
    anonymous = restClient(server.url);
  });
  after(() => server.stop());

  test("POST /auth/token", async () => {
    const user = { user_id: "alice", username: "Alice", email: "alice@company.com" };
    const answer = await anonymous("POST", "/auth/token", user);
    assert.equal(answer.status, 200);
    assertShape(answer.body, { token: "eyJ…", ...user, namespace: "tenant-alice" }, false);
    const { token, ...told } = objectOf(answer);
    for (const [name, value] of Object.entries({ ...user, namespace: "tenant-alice" })) {
      assert.equal(told[name], value, name);
    }
    call = restClient(server.url, { authorization: `Bearer ${token}` });
  });

  const wanted = {
    name: "my-function",
    image: "nginx:alpine",
    replicas: 2,
    command: ["nginx", "-g", "daemon off;"],
    env: { ENV: "production", LOG_LEVEL: "info" },
  };
  const documented = {
    id: "550e8400-e29b-41d4-a716-446655440000",
    user_id: "alice",
    namespace: "tenant-alice",
    ...wanted,
    status: "Pending",
    created_at: "2025-11-08T10:30:00Z",
    updated_at: "2025-11-08T10:30:00Z",
  };

  test("POST /v1/functions: 201, and the errors of the document", async () => {
    const made = await call("POST", "/v1/functions", wanted);
    assert.equal(made.status, 201, JSON.stringify(made.body));
    assertShape(made.body, documented, false);
    const { name, namespace, image, replicas, command, env, status } = objectOf(made);
    assert.deepEqual(
      { name, namespace, image, replicas, command, env, status },
      { ...wanted, namespace: "tenant-alice", status: "Pending" },
    );
    const again = await call("POST", "/v1/functions", wanted);
    assert.deepEqual(
      [again.status, again.body],
      [
        409,
        { error: "Conflict", message: "function 'my-function' already exists in namespace 'tenant-alice'" },
      ],
    );
    const nameless = await call("POST", "/v1/functions", { image: "nginx:alpine" });
    assert.equal(nameless.status, 400);
    assert.deepEqual(nameless.body, { error: "Bad Request", message: "name is required" });
    const locked = await anonymous("POST", "/v1/functions", wanted);
    assert.equal(locked.status, 401);
    assert.deepEqual(locked.body, { error: "Unauthorized", message: "missing authorization header" });
  });

  test("GET /v1/functions is a bare list, with the document's own pages", async () => {
    await call("POST", "/v1/functions", { name: "api-backend", image: "node:18-alpine" });
    const listed = await call("GET", "/v1/functions");
    assert.equal(listed.status, 200);
    const { command: _, env: __, ...least } = documented;
    assertShape(listed.body, [least], false);
    assert.equal((listed.body as unknown[]).length, 2);
    const pages = await Promise.all(
      [1, 2, 3].map((page) => call("GET", `/v1/functions?page=${page}&limit=1`)),
    );
    const names = pages.flatMap(({ body }) => (body as { name: string }[]).map(({ name }) => name));
    assert.deepEqual(names.toSorted(), ["api-backend", "my-function"]);
  });

  test("GET /v1/functions/{name}", async () => {
    const found = await call("GET", "/v1/functions/my-function");
    assert.equal(found.status, 200);
    assertShape(found.body, documented, false);
    const missing = await call("GET", "/v1/functions/web-server");
    assert.deepEqual(
      [missing.status, missing.body],
      [404, { error: "Not Found", message: "function 'web-server' not found" }],
    );
  });

  test("POST /v1/functions/{name}:invoke", async () => {
    const invoked = await call("POST", "/v1/functions/my-function:invoke", {
      input: { key: "value", data: "payload" },
    });
    assert.equal(invoked.status, 200);
    assertShape(invoked.body, { message: "…", job_name: "…" }, false);
    const { message, job_name } = objectOf(invoked);
    assert.equal(message, "Function 'my-function' invoked successfully");
    assert.match(String(job_name), /^my-function-invoke-\d+/);
    assert.equal((await call("POST", "/v1/functions/my-function:invoke")).status, 200);
  });

  test("GET /v1/functions/{name}/logs is text, or events", async () => {
    const text = await call("GET", "/v1/functions/my-function/logs?tail=50");
    assert.equal(text.status, 200);
    assert.match(text.headers.get("content-type") ?? "", /^text\/plain/);
    const events = await call("GET", "/v1/functions/my-function/logs", undefined, {
      accept: "text/event-stream",
    });
    assert.match(events.headers.get("content-type") ?? "", /^text\/event-stream/);
  });

  test("DELETE /v1/functions/{name}: 204, and the name is free again", async () => {
    const deleted = await call("DELETE", "/v1/functions/my-function");
    assert.deepEqual([deleted.status, deleted.body], [204, undefined]);
    assert.equal((await call("DELETE", "/v1/functions/my-function")).status, 404);
    assert.equal((await call("POST", "/v1/functions", wanted)).status, 201);
  });

  test("health and Prometheus", async () => {
    assert.deepEqual((await anonymous("GET", "/healthz")).body, { status: "healthy" });
    assert.deepEqual((await anonymous("GET", "/readyz")).body, { status: "ready" });
    const metrics = await anonymous("GET", "/metrics", undefined, {
      authorization: `Bearer ${metricsToken}`,
    });
    assert.equal(metrics.status, 200);
    for (const name of [
      "eventflow_api_requests_total",
      "eventflow_api_request_duration_seconds",
      "eventflow_functions_total",
    ]) {
      assert.match(String(metrics.body), new RegExp(`^# TYPE ${name} `, "m"), name);
    }
  });
});
