import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create, toJson } from "@bufbuild/protobuf";
import { durationMs, timestampDate, timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { OutcomeStatus } from "../server/src/gen/pulsewire/common/v1/outcome_pb.js";
import { EventSchema, Severity } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

describe("ingestion", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let ingestion: Client<typeof IngestionService>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_MAX_BATCH_EVENTS: "2000" });
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    ingestion = createClient(IngestionService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("an event comes back as it was sent", async () => {
    const event = create(EventSchema, {
      eventId: "evt_full",
      eventType: "api_call",
      title: "User Login Attempt",
      message: "User attempted to log in.",
      severity: Severity.WARNING,
      source: { service: "auth-service", endpoint: "/api/v1/auth/login", method: "POST", version: "1.0" },
      context: { ip_address: "192.168.1.100", nested: { list: [1, "two", null, true] } },
      metrics: { response_time_ms: 150.5, status_code: 200 },
      metadata: { campaign: "summer_promo" },
      payload: { username: "testuser", text: 'ä "quoted" \\ {braces} \u2028' },
      userId: "user_1",
      sessionId: "session_1",
      timestamp: timestampFromMs(Date.now() - 5_000),
      priority: 7,
    });
    const answer = await ingestion.ingestEvent({ event });
    assert.equal(answer.eventId, "evt_full");
    assert.equal(answer.duplicate, false);
    const stored = (await ingestion.getEvent({ eventId: "evt_full" })).event;
    assert.deepEqual(toJson(EventSchema, stored?.event ?? create(EventSchema)), toJson(EventSchema, event));
    assert.deepEqual(stored?.receivedAt, answer.receivedAt);
  });

  test("what was left out is filled in", async () => {
    const { eventId } = await ingestion.ingestEvent({
      event: { eventType: "bare", context: { user_id: "user-123" } },
    });
    const stored = (await ingestion.getEvent({ eventId })).event;
    assert.equal(stored?.event?.severity, Severity.INFO);
    assert.equal(stored?.event?.priority, 1);
    assert.equal(stored?.event?.userId, "user-123");
    const received = stored?.receivedAt && timestampMs(stored.receivedAt);
    const happened = stored?.event?.timestamp && timestampMs(stored.event.timestamp);
    assert.ok(Math.abs((received ?? 0) - (happened ?? 1e15)) < 1_000);
  });

  test("the same id is a duplicate with the same body and a conflict with another", async () => {
    const event = {
      eventId: "evt_same",
      eventType: "click",
      metrics: { a: 1, b: 2 },
      payload: { x: 1, y: 2 },
    };
    const first = await ingestion.ingestEvent({ event });
    const reordered = { ...event, metrics: { b: 2, a: 1 }, payload: { y: 2, x: 1 } };
    const second = await ingestion.ingestEvent({ event: reordered });
    assert.equal(second.duplicate, true);
    assert.deepEqual(second.receivedAt, first.receivedAt);
    const third = ingestion.ingestEvent({ event: { ...event, payload: { x: 2 } } });
    const { metadata } = await assertFails(third, Code.AlreadyExists, "CONFLICT");
    assert.equal(metadata.id, "evt_same");
  });

  test("every event of a batch has its outcome", async () => {
    const answer = await ingestion.ingestEvents({
      allowPartial: true,
      events: [
        { eventId: "o1", eventType: "a" },
        { eventId: "o1", eventType: "a" },
        { eventId: "o1", eventType: "b" },
        { eventType: "" },
        { eventType: "a", priority: 11 },
        { eventType: "a" },
      ],
    });
    assert.deepEqual(
      answer.outcomes.map(({ status, field, code }) => [OutcomeStatus[status], field, code]),
      [
        ["ACCEPTED", "", ""],
        ["DUPLICATE", "", ""],
        ["CONFLICT", "event_id", "CONFLICT"],
        ["REJECTED", "event_type", "string.min_len"],
        ["REJECTED", "priority", "int32.gte_lte"],
        ["ACCEPTED", "", ""],
      ],
    );
    const { $typeName: _, ...counts } = answer.counts ?? { $typeName: "" };
    assert.deepEqual(counts, { total: 6, accepted: 2, duplicate: 1, conflict: 1, rejected: 2, retry: 0 });
    assert.ok(answer.outcomes.at(-1)?.id);
  });

  test("without allow_partial one broken event refuses the batch, and nothing is stored", async () => {
    const call = ingestion.ingestEvents({
      events: [
        { eventId: "n1", eventType: "a" },
        { eventId: "n2", eventType: "" },
        { eventId: "n 3", eventType: "a" },
      ],
    });
    const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
    assert.ok(
      fields.includes("events[1].event_type") && fields.includes("events[2].event_id"),
      fields.join(),
    );
    await assertFails(ingestion.getEvent({ eventId: "n1" }), Code.NotFound, "NOT_FOUND");
  });

  test("a clock that is off is corrected and reported; a second sending is still a duplicate", async () => {
    const hour = 3_600_000;
    const event = {
      eventId: "skewed",
      eventType: "a",
      timestamp: timestampFromMs(Date.now() - hour - 1_000),
    };
    const answer = await ingestion.ingestEvent({ event, sentAt: timestampFromMs(Date.now() - hour) });
    assert.equal(answer.clockSkew && durationMs(answer.clockSkew), hour);
    const stored = (await ingestion.getEvent({ eventId: "skewed" })).event?.event?.timestamp;
    assert.ok(Math.abs(Date.now() - 1_000 - (stored ? timestampMs(stored) : 0)) < 30_000);
    const again = await ingestion.ingestEvent({ event, sentAt: timestampFromMs(Date.now() - 2 * hour) });
    assert.equal(again.duplicate, true);
  });

  test("lists are filtered and paged, in both directions, without gap or repeat", async () => {
    await using other = await serve(server.database);
    const tenant = await server.register("lists");
    using mine = grpcSession(other.url, { "x-api-key": tenant.apiKey });
    const client = createClient(IngestionService, mine.transport);
    const events = Array.from({ length: 25 }, (_, index) => ({
      eventId: `l${index}`,
      eventType: index % 2 ? "odd" : "even",
      userId: `u${index % 5}`,
      severity: index % 3 ? Severity.INFO : Severity.ERROR,
      source: { service: index < 5 ? "first" : "rest" },
    }));
    await client.ingestEvents({ events });
    const walk = async (request: Parameters<typeof client.listEvents>[0]) => {
      const ids: string[] = [];
      for (let pageToken = ""; ; ) {
        const page = await client.listEvents({ ...request, pageSize: 7, pageToken });
        ids.push(...page.events.map(({ event }) => event?.eventId ?? ""));
        if (!page.nextPageToken) return ids;
        pageToken = page.nextPageToken;
      }
    };
    const all = events.map(({ eventId }) => eventId);
    assert.deepEqual(await walk({ oldestFirst: true }), all);
    assert.deepEqual(await walk({}), all.toReversed());
    const pick = (keep: (event: (typeof events)[number]) => boolean) =>
      events.filter(keep).map(({ eventId }) => eventId);
    assert.deepEqual(
      await walk({ oldestFirst: true, filter: { eventTypes: ["odd"] } }),
      pick((e) => e.eventType === "odd"),
    );
    assert.deepEqual(
      await walk({ oldestFirst: true, filter: { userId: "u3" } }),
      pick((e) => e.userId === "u3"),
    );
    assert.deepEqual(
      await walk({ oldestFirst: true, filter: { minSeverity: Severity.ERROR } }),
      pick((e) => e.severity === Severity.ERROR),
    );
    assert.deepEqual(
      await walk({ oldestFirst: true, filter: { sourceService: "first" } }),
      pick((e) => e.source.service === "first"),
    );
    assert.deepEqual(await walk({ filter: { receivedFrom: timestampFromMs(Date.now() + 60_000) } }), []);
    const [first] = (await client.listEvents({ pageSize: 1, oldestFirst: true })).events;
    const received = first?.receivedAt ? timestampDate(first.receivedAt).getTime() : 0;
    assert.deepEqual(await walk({ filter: { receivedUntil: timestampFromMs(received) } }), []);
  });

  test("a token of another query, or none of ours, is refused", async () => {
    const { nextPageToken } = await ingestion.listEvents({ pageSize: 1 });
    assert.ok(nextPageToken);
    for (const request of [
      { pageToken: nextPageToken, oldestFirst: true },
      { pageToken: nextPageToken, filter: { userId: "x" } },
      { pageToken: "bm90IG91cnM" },
    ]) {
      const { fields } = await assertFails(
        ingestion.listEvents(request),
        Code.InvalidArgument,
        "INVALID_CURSOR",
      );
      assert.deepEqual(fields, ["page_token"]);
    }
  });

  test("outcomes sum to the batch, and the table holds each id once, whatever arrives together", async () => {
    const property = fc.asyncProperty(
      fc.array(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 2 })), {
          minLength: 1,
          maxLength: 20,
        }),
        {
          minLength: 1,
          maxLength: 6,
        },
      ),
      fc.string({ minLength: 6, maxLength: 6, unit: fc.constantFrom(..."abcdefghijklmnop") }),
      async (batches, run) => {
        const answers = await Promise.all(
          batches.map((batch) =>
            ingestion.ingestEvents({
              allowPartial: true,
              events: batch.map(([id, body]) => ({
                eventId: `${run}-${id}`,
                eventType: body === 2 ? "" : `body${body}`,
              })),
            }),
          ),
        );
        const accepted = new Map<string, number>();
        answers.forEach((answer, index) => {
          const {
            total = 0,
            accepted: ok = 0,
            duplicate = 0,
            conflict = 0,
            rejected = 0,
            retry = 0,
          } = answer.counts ?? {};
          assert.equal(total, batches[index]?.length);
          assert.equal(ok + duplicate + conflict + rejected + retry, total);
          assert.equal(answer.outcomes.length, total);
          for (const { id, status } of answer.outcomes) {
            if (status === OutcomeStatus.ACCEPTED) accepted.set(id, (accepted.get(id) ?? 0) + 1);
          }
        });
        const valid = new Set(batches.flat().flatMap(([id, body]) => (body === 2 ? [] : [`${run}-${id}`])));
        assert.ok([...accepted.values()].every((times) => times === 1));
        const { rows } = await server.database.superuser.query(
          "select event_id, count(*)::int as n from events where starts_with(event_id, $1) group by 1",
          [`${run}-`],
        );
        assert.deepEqual(new Set(rows.map(({ event_id }) => event_id)), valid);
        assert.deepEqual(new Set(accepted.keys()), valid);
        assert.ok(rows.every(({ n }) => n === 1));
      },
    );
    await fc.assert(property, { numRuns: 20, endOnFailure: true });
  });
});

test("a full queue refuses with a delay, before memory grows", async () => {
  await using server = await startTestServer({ PULSEWIRE_MAX_QUEUED_ROWS: "1000" });
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const ingestion = createClient(IngestionService, session.transport);
  const events = Array.from({ length: 400 }, () => ({ eventType: "load" }));
  const calls = await Promise.allSettled(
    Array.from({ length: 40 }, () => ingestion.ingestEvents({ events })),
  );
  const refused = calls.filter((call) => call.status === "rejected");
  assert.ok(
    refused.length > 0 && refused.length < calls.length,
    `${refused.length} of ${calls.length} refused`,
  );
  for (const { reason } of refused) {
    const { retries } = await assertFails(Promise.reject(reason), Code.ResourceExhausted, "OVERLOADED");
    assert.ok(retries);
  }
  const { rows } = await server.database.superuser.query("select count(*)::int as n from events");
  assert.equal(rows[0].n, (calls.length - refused.length) * 400);
});

test("with allow_partial what finds no room is to be sent again, the least urgent first, and the rest is stored", async () => {
  await using server = await startTestServer({ PULSEWIRE_MAX_QUEUED_ROWS: "1000" });
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const ingestion = createClient(IngestionService, session.transport);
  const events = Array.from({ length: 400 }, (_, index) => ({
    eventType: "load",
    priority: (index % 10) + 1,
  }));
  const calls = await Promise.allSettled(
    Array.from({ length: 40 }, () => ingestion.ingestEvents({ events, allowPartial: true })),
  );
  let accepted = 0;
  let partial = 0;
  for (const call of calls) {
    if (call.status === "rejected") {
      await assertFails(Promise.reject(call.reason), Code.ResourceExhausted, "OVERLOADED");
      continue;
    }
    const { counts, outcomes } = call.value;
    accepted += counts?.accepted ?? 0;
    assert.equal((counts?.accepted ?? 0) + (counts?.retry ?? 0), 400);
    const retried = outcomes.flatMap(({ status }, index) => (status === OutcomeStatus.RETRY ? [index] : []));
    if (retried.length === 0) continue;
    partial++;
    const priorityOf = (index: number) => events[index]?.priority ?? 0;
    const stored = outcomes.flatMap(({ status }, index) =>
      status === OutcomeStatus.ACCEPTED ? [index] : [],
    );
    assert.ok(Math.max(...retried.map(priorityOf)) <= Math.min(...stored.map(priorityOf)));
    const delay = outcomes[retried[0] ?? 0]?.retryDelay;
    assert.ok(delay && durationMs(delay) > 0);
  }
  assert.ok(partial > 0, "no call was stored in part");
  const { rows } = await server.database.superuser.query("select count(*)::int as n from events");
  assert.equal(rows[0].n, accepted);
});
