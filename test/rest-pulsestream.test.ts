/** PulseStream's documented calls, in the order of its deployment plan. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";

describe("PulseStream over REST", () => {
  let server: TestServer;
  let call: ReturnType<typeof restClient>;
  let token = "";

  before(async () => {
    server = await startTestServer();
    call = restClient(server.url);
  });
  after(() => server.stop());

  test("step 1 registers a tenant and answers with a temporary password; step 2 logs in", async () => {
    const registered = await call("POST", "/api/v1/auth/register/tenant", {
      name: "My Test Company",
      slug: "my-test-company",
      contact_email: "owner@testcompany.com",
    });
    assert.equal(registered.status, 201);
    const password = objectOf(registered).temporary_password as string;
    assert.ok(password.length >= 12);
    const login = await call("POST", "/api/v1/auth/login", {
      email: "owner@testcompany.com",
      password,
      tenant_slug: "my-test-company",
    });
    assert.equal(login.status, 200);
    assertShape(login.body, { access_token: "…", token_type: "bearer", expires_in: 3600 }, false);
    token = objectOf(login).access_token as string;
  });

  const event = {
    event_type: "api_call",
    title: "User Login Attempt",
    message: "User attempted to log in.",
    severity: "info",
    source: { service: "auth-service", endpoint: "/api/v1/auth/login", method: "POST", version: "1.0" },
    context: { user_id: "user-123", ip_address: "192.168.1.100" },
    metrics: { response_time_ms: 150.5, status_code: 200 },
    payload: { username: "testuser" },
  };

  test("step 3 ingests an event, which is stored as it was sent", async () => {
    const bearer = { authorization: `Bearer ${token}` };
    const answer = await call("POST", "/api/v1/ingestion/events", event, bearer);
    assert.equal(answer.status, 200);
    assertShape(answer.body, {
      success: true,
      event_id: "...",
      ingested_at: "2026-01-01T00:00:00Z",
      processing_status: "queued",
      message: "Event ingested successfully",
    });
    const { success, processing_status, message, event_id } = objectOf(answer);
    assert.deepEqual([success, processing_status, message], [true, "queued", "Event ingested successfully"]);
    const stored = await call("GET", `/v1/events/${event_id}`, undefined, bearer);
    const kept = (objectOf(stored).event as { event: Record<string, unknown> }).event;
    assert.deepEqual(
      [kept.eventType, kept.severity, kept.context, kept.metrics, kept.source, kept.payload, kept.userId],
      ["api_call", "SEVERITY_INFO", event.context, event.metrics, event.source, event.payload, "user-123"],
    );
  });

  test("a batch", async () => {
    const answer = await call(
      "POST",
      "/api/v1/ingestion/events/batch",
      { events: [event, { ...event, severity: "critical" }] },
      { authorization: `Bearer ${token}` },
    );
    assert.equal(answer.status, 200);
    assertShape(
      answer.body,
      { success: true, total: 2, accepted: 2, event_ids: ["..."], message: "..." },
      false,
    );
  });

  test("what is wrong is told as FastAPI tells it", async () => {
    const bearer = { authorization: `Bearer ${token}` };
    const invalid = await call("POST", "/api/v1/ingestion/events", { severity: "info" }, bearer);
    assert.equal(invalid.status, 422);
    assertShape(invalid.body, { detail: [{ loc: ["body"], msg: "...", type: "..." }] });
    const [first] = objectOf(invalid).detail as { loc: string[] }[];
    assert.deepEqual(first?.loc, ["body", "event_type"]);
    const severity = await call("POST", "/api/v1/ingestion/events", { ...event, severity: "loud" }, bearer);
    assert.equal(severity.status, 422);
    const anonymous = await call("POST", "/api/v1/ingestion/events", event);
    assert.equal(anonymous.status, 401);
    assertShape(anonymous.body, { detail: "..." }, false);
    const wrong = await call("POST", "/api/v1/auth/login", {
      email: "owner@testcompany.com",
      password: "wrong",
      tenant_slug: "my-test-company",
    });
    assert.equal(wrong.status, 401);
    assert.equal(typeof objectOf(wrong).detail, "string");
  });

  test("a caller who may not call learns that, not what is wrong with the body", async () => {
    const answer = await call("POST", "/api/v1/ingestion/events", { severity: "loud" });
    assert.equal(answer.status, 401);
  });
});
