/** Event Processor's documented calls. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { JsonValue } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { untilProcessed } from "./helpers/recount.ts";
import { assertShape, objectOf, restClient } from "./helpers/rest.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";
import { startMailServer } from "./helpers/smtp.ts";

const full = {
  eventType: "user_signup",
  userId: "user_abc123",
  sessionId: "session_xyz789",
  timestamp: "2024-01-30T12:34:56Z",
  metadata: { source: "web", campaign: "summer_promo" },
  payload: { referrer: "google.com", browser: "Chrome" },
  priority: 1,
  eventId: "evt_optional_custom_id",
};
const least = {
  eventType: "click",
  userId: "user_2",
  sessionId: "session_2",
  timestamp: "2024-01-30T12:35:00Z",
};

/** As the document shows them. */
const documented = {
  stats: {
    success: true,
    data: { ingestionRate: 1250.5, totalIngested: 150000, timestamp: "2024-01-30T12:34:56Z" },
  },
  analytics: {
    success: true,
    data: {
      totalEvents: 15000,
      timeRange: { start: "2024-01-29T12:00:00Z", end: "2024-01-30T12:00:00Z" },
      eventsByType: [{ eventType: "page_view", count: 8000, percentage: 53.3 }],
      topUsers: [
        {
          userId: "user_abc123",
          eventCount: 150,
          lastEventAt: "2024-01-30T11:59:00Z",
          eventTypes: ["page_view", "click", "purchase"],
        },
      ],
      eventsOverTime: [{ timestamp: "2024-01-30T11:00:00Z", count: 1000 }],
      avgEventsPerUser: 30.5,
      uniqueUsers: 500,
      uniqueSessions: 800,
    },
  },
};

interface Figures {
  readonly totalEvents: number;
  readonly timeRange: { readonly start: string; readonly end: string };
  readonly eventsByType: readonly { readonly eventType: string; readonly count: number }[];
  readonly topUsers: readonly object[];
  readonly avgEventsPerUser: number;
  readonly uniqueUsers: number;
  readonly uniqueSessions: number;
}

describe("Event Processor over REST", () => {
  let server: TestServer;
  let call: ReturnType<typeof restClient>;
  let key: Record<string, string>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_PUBLIC_TENANT: "first" });
    await server.context.findPublicTenant();
    call = restClient(server.url);
    key = { "x-api-key": server.tenant.apiKey };
  });
  after(() => server.stop());

  const failed = (code: string) => ({ success: false, error: { code, message: "..." } });

  test("POST /api/v1/events: 202 for a new event, 200 for a duplicate", async () => {
    const first = await call("POST", "/api/v1/events", full, key);
    assert.deepEqual(
      [first.status, first.body],
      [
        202,
        {
          success: true,
          data: {
            eventId: "evt_optional_custom_id",
            accepted: true,
            duplicate: false,
            message: "Event accepted for processing",
          },
        },
      ],
    );
    const again = await call("POST", "/api/v1/events", full, key);
    assert.deepEqual(
      [again.status, again.body],
      [
        200,
        {
          success: true,
          data: {
            eventId: "evt_optional_custom_id",
            accepted: false,
            duplicate: true,
            message: "Event already processed (duplicate)",
          },
        },
      ],
    );
    const made = await call("POST", "/api/v1/events", least, key);
    assert.equal(made.status, 202);
    assert.ok((objectOf(made).data as { eventId: string }).eventId);
  });

  test("its errors", async () => {
    const { eventType: _, ...untyped } = full;
    for (const [body, headers, status, code] of [
      [untyped, key, 400, "VALIDATION_ERROR"],
      [{ ...full, priority: 11 }, key, 400, "VALIDATION_ERROR"],
      [{ ...full, timestamp: "yesterday" }, key, 400, "VALIDATION_ERROR"],
      [full, {}, 401, "MISSING_API_KEY"],
      [untyped, {}, 401, "MISSING_API_KEY"],
      [full, { "x-api-key": "evp_wrong" }, 401, "INVALID_API_KEY"],
      [{ ...full, payload: { other: true } }, key, 409, "CONFLICT"],
    ] as const) {
      const answer = await call("POST", "/api/v1/events", body, headers);
      assert.equal(answer.status, status, JSON.stringify(answer.body));
      assertShape(answer.body, failed(code), false);
      assert.equal((objectOf(answer).error as { code: string }).code, code);
    }
  });

  test("POST /api/v1/events/batch", async () => {
    const events = [
      { ...least, eventId: "evt_1" },
      { ...least, eventId: "evt_2" },
    ];
    const first = await call("POST", "/api/v1/events/batch", { events }, key);
    assert.deepEqual(
      [first.status, first.body],
      [
        202,
        {
          success: true,
          data: {
            accepted: 2,
            duplicates: 0,
            total: 2,
            eventIds: ["evt_1", "evt_2"],
            message: "Batch processed successfully",
          },
        },
      ],
    );
    const again = await call("POST", "/api/v1/events/batch", { events }, key);
    assert.equal((objectOf(again).data as { duplicates: number }).duplicates, 2);
    const tooMany = { events: Array.from({ length: 1_001 }, () => least) };
    for (const body of [{ events: [] }, tooMany, { events: [{ ...least, userId: "" }] }]) {
      const refused = await call("POST", "/api/v1/events/batch", body, key);
      assert.equal(refused.status, 400);
      assertShape(refused.body, failed("VALIDATION_ERROR"), false);
    }
  });

  test("e-mail codes, the token, an API key and who one is", async () => {
    await using smtp = await startMailServer();
    await using mailing = await startTestServer({
      SMTP_URL: smtp.url,
      PULSEWIRE_MAIL_FROM: "codes@pulsewire.example",
    });
    const own = restClient(mailing.url);
    const requested = await own("POST", "/api/auth/request-code", { email: "user@example.com" });
    assert.deepEqual(
      [requested.status, requested.body],
      [200, { success: true, data: { message: "Verification code sent to user@example.com" } }],
    );
    const code = await smtp.nextCode("user@example.com");
    const wrong = await own("POST", "/api/auth/verify", {
      email: "user@example.com",
      code: code === "000000" ? "000001" : "000000",
    });
    assert.equal(wrong.status, 401);
    assertShape(wrong.body, failed("INVALID_CODE"), false);
    assert.equal((objectOf(wrong).error as { code: string }).code, "INVALID_CODE");
    const verified = await own("POST", "/api/auth/verify", { email: "user@example.com", code });
    assert.equal(verified.status, 200);
    assertShape(verified.body, {
      success: true,
      data: { token: "eyJ…", user: { id: "uuid-here", email: "user@example.com", role: "USER" } },
    });
    const { token, user } = objectOf(verified).data as { token: string; user: { role: string } };
    assert.equal(user.role, "USER");
    const bearer = { authorization: `Bearer ${token}` };
    const me = await own("GET", "/api/auth/me", undefined, bearer);
    assert.equal(me.status, 200);
    assertShape(me.body, {
      success: true,
      data: { id: "uuid-here", email: "user@example.com", role: "USER", createdAt: "2024-01-30T10:00:00Z" },
    });
    const made = await own("POST", "/api/auth/api-key", { name: "Production API Key" }, bearer);
    assert.equal(made.status, 200);
    assertShape(made.body, {
      success: true,
      data: { apiKey: "evp_…", message: "API key generated successfully" },
    });
    const { apiKey } = objectOf(made).data as { apiKey: string };
    assert.match(apiKey, /^evp_/);
    assert.equal((await own("POST", "/api/v1/events", full, { "x-api-key": apiKey })).status, 202);
    const refused = await own("POST", "/api/auth/request-code", { email: "nobody" });
    assert.equal(refused.status, 400);
    assertShape(refused.body, failed("VALIDATION_ERROR"), false);
    assert.equal((objectOf(refused).error as { code: string }).code, "VALIDATION_ERROR");
    const malformed = await own("POST", "/api/auth/verify", { email: "user@example.com", code: "12" });
    assert.equal((objectOf(malformed).error as { code: string }).code, "VALIDATION_ERROR");
    for (const [method, path, body] of [
      ["GET", "/api/auth/me", undefined],
      ["POST", "/api/auth/api-key", { name: "x" }],
    ] as const) {
      const anonymous = await own(method, path, body);
      assert.equal(anonymous.status, 401);
      assert.equal((objectOf(anonymous).error as { code: string }).code, "UNAUTHORIZED");
    }
  });

  test("GET /api/v1/events/stats", async () => {
    const read = async () => {
      const stats = await call("GET", "/api/v1/events/stats", undefined, key);
      assert.equal(stats.status, 200);
      assertShape(stats.body, documented.stats);
      return objectOf(stats).data as { ingestionRate: number; totalIngested: number; timestamp: string };
    };
    const before = await read();
    const events = [1, 2, 3].map((id) => ({ ...least, eventId: `counted_${id}` }));
    await call("POST", "/api/v1/events/batch", { events }, key);
    const after = await read();
    assert.equal(after.totalIngested - before.totalIngested, 3);
    assert.ok(after.ingestionRate > 0);
    assert.ok(Math.abs(Date.parse(after.timestamp) - Date.now()) < 60_000);
    for (const [headers, code] of [
      [{}, "MISSING_API_KEY"],
      [{ "x-api-key": "evp_wrong" }, "INVALID_API_KEY"],
    ] as const) {
      const refused = await call("GET", "/api/v1/events/stats", undefined, headers);
      assert.equal(refused.status, 401);
      assertShape(refused.body, failed(code), false);
      assert.equal((objectOf(refused).error as { code: string }).code, code);
    }
  });

  test("GET /api/v1/analytics/metrics, without credentials", async () => {
    const ago = (minutes: number) => new Date(Date.now() - minutes * 60_000).toISOString();
    const events = [
      { eventType: "page_view", userId: "user_abc123", sessionId: "s1", timestamp: ago(2) },
      { eventType: "page_view", userId: "user_abc123", sessionId: "s1", timestamp: ago(3) },
      { eventType: "click", userId: "user_abc123", sessionId: "s2", timestamp: ago(4) },
      { eventType: "click", userId: "user_9", sessionId: "s3", timestamp: ago(600) },
    ];
    assert.equal((await call("POST", "/api/v1/events/batch", { events }, key)).status, 202);
    using session = grpcSession(server.url, key);
    await untilProcessed(createClient(IngestionService, session.transport));
    const read = async (query: string) => {
      const answer = await call("GET", `/api/v1/analytics/metrics${query}`);
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      return answer;
    };
    const figures = async (query: string) => {
      const { totalEvents, timeRange, eventsByType } = objectOf(await read(query)).data as unknown as Figures;
      const hours = (Date.parse(timeRange.end) - Date.parse(timeRange.start)) / 3_600_000;
      return [totalEvents, hours, eventsByType.map(({ eventType, count }) => `${eventType} ${count}`)];
    };
    assertShape((await read("?timeRange=24h")).body, documented.analytics);
    assert.deepEqual(await figures(""), [3, 1, ["page_view 2", "click 1"]]);
    assert.deepEqual(await figures("?timeRange=15m"), [3, 0.25, ["page_view 2", "click 1"]]);
    assert.deepEqual(await figures("?timeRange=1h"), [3, 1, ["page_view 2", "click 1"]]);
    assert.deepEqual(await figures("?timeRange=24h"), [4, 24, ["click 2", "page_view 2"]]);
    assert.deepEqual(await figures("?timeRange=7d"), [4, 168, ["click 2", "page_view 2"]]);
    assert.deepEqual(await figures("?timeRange=24h&eventType=click"), [2, 24, ["click 2"]]);
    assert.deepEqual(await figures("?timeRange=24h&eventType=click&userId=user_abc"), [1, 24, ["click 1"]]);
    const { topUsers, avgEventsPerUser, uniqueUsers, uniqueSessions } = objectOf(
      await read("?timeRange=24h&userId=abc"),
    ).data as unknown as Figures;
    assert.deepEqual([avgEventsPerUser, uniqueUsers, uniqueSessions], [3, 1, 2]);
    assert.deepEqual(topUsers, [
      {
        userId: "user_abc123",
        eventCount: 3,
        lastEventAt: events[0]?.timestamp,
        eventTypes: ["page_view", "click"],
      },
    ]);
    const unknown = await call("GET", "/api/v1/analytics/metrics?timeRange=2h");
    assert.equal(unknown.status, 400);
    assertShape(unknown.body, failed("VALIDATION_ERROR"), false);
  });

  test("500, where the tables cannot be used", async () => {
    await using broken = await startTestServer({ PULSEWIRE_PUBLIC_TENANT: "first" });
    await broken.context.findPublicTenant();
    const own = restClient(broken.url);
    const apiKey = { "x-api-key": broken.tenant.apiKey };
    const { user } = broken.database.connection("app");
    await broken.database.superuser.query(`revoke all on all tables in schema pulsewire from ${user}`);
    for (const [method, path, body, headers, code] of [
      ["POST", "/api/v1/events", full, apiKey, "INGESTION_ERROR"],
      ["POST", "/api/v1/events/batch", { events: [full] }, apiKey, "INGESTION_ERROR"],
      ["GET", "/api/v1/analytics/metrics", undefined, {}, "ANALYTICS_ERROR"],
      [
        "POST",
        "/api/auth/api-key",
        { name: "Production API Key" },
        { authorization: `Bearer ${broken.tenant.token}` },
        "API_KEY_GENERATION_ERROR",
      ],
    ] as const) {
      const answer = await own(method, path, body as JsonValue | undefined, headers);
      assert.equal(answer.status, 500, `${path}: ${JSON.stringify(answer.body)}`);
      assertShape(answer.body, failed(code));
      assert.equal((objectOf(answer).error as { code: string }).code, code);
    }
  });

  test("health", async () => {
    const health = await call("GET", "/api/health");
    assert.equal(health.status, 200);
    assertShape(
      health.body,
      {
        status: "healthy",
        version: "1.0.0",
        uptime: 3600,
        timestamp: "2024-01-30T12:34:56Z",
        services: { mongodb: { status: "up" }, postgres: { status: "up" }, redis: { status: "up" } },
      },
      false,
    );
    assert.equal(objectOf(health).status, "healthy");
    assert.deepEqual((await call("GET", "/api/ready")).body, { ready: true });
    assert.deepEqual((await call("GET", "/api/live")).body, { live: true });
  });
});
