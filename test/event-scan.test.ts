import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, type JsonObject, toBinary, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import type { Selectable } from "kysely";
import { arrayHeaderBytes, year2000Ms } from "../server/src/db/binary-array.ts";
import type { EventsTable } from "../server/src/db/schema/ingestion.ts";
import { OutcomeStatus } from "../server/src/gen/pulsewire/common/v1/outcome_pb.js";
import {
  type Event,
  EventSchema,
  IngestEventRequestSchema,
  IngestEventsRequestSchema,
  IngestEventsResponseSchema,
} from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { encodeAnswer, outcomeOf } from "../server/src/ingestion/answer.ts";
import { eventColumns, keyColumns } from "../server/src/ingestion/columns.ts";
import { createRows, type EventRow, slot } from "../server/src/ingestion/event-row.ts";
import { EventScanner } from "../server/src/ingestion/event-scan.ts";
import { createRowIds, timeOfId, timeOfUuidv7 } from "../server/src/ingestion/ids.ts";
import { correctClock, createEventReader } from "../server/src/ingestion/read-event.ts";
import { requestDecoders, ScannedEvent } from "../server/src/ingestion/request-scan.ts";
import { rowToEvent } from "../server/src/ingestion/stored-event.ts";
import { eventKey, uuidText } from "../server/src/ingestion/words.ts";

const maxEventBytes = 4_096;
const reader = createEventReader(maxEventBytes);
const scanner = new EventScanner(maxEventBytes);
const newRow = createRows();
const assignId = createRowIds();

const text = (maxLength: number) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.string({ maxLength, unit: "grapheme-ascii" }) },
    fc.string({ maxLength, unit: "grapheme" }),
    fc.constantFrom("", "\0", "ä", "\u{1f600}", "\ufffe", "x".repeat(maxLength + 1), "ß".repeat(maxLength)),
  );
const json = fc.dictionary(
  fc.oneof(text(8), fc.constantFrom("__proto__", "user_id", "1", "10", "2")),
  fc.jsonValue(),
  {
    maxKeys: 20,
    noNullPrototype: true,
  },
) as fc.Arbitrary<JsonObject>;
const eventId = fc.oneof(
  fc.uuid(),
  fc.uuid({ version: 7 }),
  fc.string({ minLength: 1, maxLength: 40, unit: fc.constantFrom(..."abcXYZ0189-_.:/") }),
  text(200),
);
const maybe = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const event: fc.Arbitrary<Event> = fc
  .record({
    eventId,
    eventType: text(200),
    title: text(500),
    message: text(600),
    severity: fc.integer({ min: -1, max: 7 }),
    source: maybe(
      fc.record({ service: text(200), endpoint: text(1_000), method: text(20), version: text(100) }),
    ),
    context: maybe(json),
    metrics: fc.dictionary(text(12), fc.double(), { maxKeys: 6, noNullPrototype: true }),
    metadata: maybe(json),
    payload: maybe(json),
    userId: fc.oneof(fc.constant(""), text(200)),
    sessionId: text(200),
    timestamp: maybe(
      fc.record({
        seconds: fc.bigInt({ min: -2n, max: 2n ** 38n }),
        nanos: fc.integer({ min: -1, max: 1_000_000_000 }),
      }),
    ),
    priority: fc.integer({ min: -1, max: 11 }),
  })
  .map(({ source, context, metadata, payload, timestamp, ...rest }) =>
    create(EventSchema, {
      ...rest,
      ...(source && { source }),
      ...(context && { context }),
      ...(metadata && { metadata }),
      ...(payload && { payload }),
      ...(timestamp && { timestamp: { ...timestampFromMs(0), ...timestamp } }),
    }),
  );

/** Everything that is written of a row, and what tells it from others. */
function written(row: EventRow): unknown {
  correctClock(row, 1_700_000_000_000, 0);
  if (row.violations) return row.violations;
  const { numbers, base } = row;
  numbers.set([1, 2, 3, 4], base + slot.id);
  if (row.lengthOf(slot.eventId) === 0) numbers.set([1, 2, 3, 4], base + slot.key);
  return [...eventColumns([row]), ...keyColumns([row])].map((column) => column.toString("hex"));
}

const digestOf = ({ numbers, base }: EventRow) => uuidText(numbers, base + slot.digest);

/** Scans a copy of the bytes, for maps change places. */
function scan(bytes: Uint8Array): EventRow | undefined {
  const row = newRow();
  return scanner.scan(Uint8Array.from(bytes), 0, bytes.length, row) ? row : undefined;
}

const ofBytes = (bytes: Uint8Array) => reader.ofBytes(Uint8Array.from(bytes), 0, bytes.length);

/** The row as the database gives it back. */
function storedRow(row: EventRow): Selectable<EventsTable> {
  const [
    id,
    eventId,
    eventType,
    userId,
    sessionId,
    severity,
    priority,
    occurredAt,
    encoded,
    metrics,
    service,
  ] = eventColumns([row]).map(onlyElement);
  const text = (value: Buffer | null | undefined) => value?.toString() ?? null;
  return {
    tenant_id: "",
    id: uuidText(row.numbers, row.base + slot.id),
    event_id: text(eventId) ?? "",
    event_type: text(eventType) ?? "",
    user_id: text(userId),
    session_id: text(sessionId),
    severity: severity?.readInt16BE() ?? 0,
    priority: priority?.readInt16BE() ?? 0,
    occurred_at: new Date(year2000Ms + Number((occurredAt?.readBigInt64BE() ?? 0n) / 1_000n)),
    encoded: encoded ?? Buffer.alloc(0),
    metrics: metrics ? JSON.parse(metrics.toString()) : null,
    source_service: text(service),
    batch: id ? "1" : "",
  };
}

const onlyElement = (array: Buffer) => elementsOf(array)[0];

function elementsOf(array: Buffer): (Buffer | null)[] {
  const elements: (Buffer | null)[] = [];
  for (let at = arrayHeaderBytes; at < array.length; ) {
    const length = array.readInt32BE(at);
    elements.push(length < 0 ? null : array.subarray(at + 4, at + 4 + length));
    at += 4 + Math.max(0, length);
  }
  return elements;
}

describe("the scan of events", () => {
  test("never says yes to an event that the full check refuses, and makes the same rows", () => {
    let decided = 0;
    fc.assert(
      fc.property(event, (sent) => {
        const bytes = toBinary(EventSchema, sent);
        const full = written(reader.ofMessage(fromBinary(EventSchema, bytes)));
        if (scan(bytes)) decided++;
        assert.deepEqual(written(ofBytes(bytes)), full);
      }),
      { numRuns: 300 },
    );
    assert.ok(decided > 20, `only ${decided} were decided`);
  });

  test("holds for bytes that no encoder of ours would write", () => {
    fc.assert(
      fc.property(
        event,
        fc.array(
          fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom("set", "insert", "delete")),
          {
            minLength: 1,
            maxLength: 4,
          },
        ),
        (sent, changes) => {
          const bytes = [...toBinary(EventSchema, sent)];
          for (const [at, byte, change] of changes) {
            const index = at % (bytes.length + 1);
            if (change === "set") bytes[index] = byte;
            else if (change === "insert") bytes.splice(index, 0, byte);
            else bytes.splice(index, 1);
          }
          const changed = Uint8Array.from(bytes);
          let decoded: Event;
          try {
            decoded = fromBinary(EventSchema, changed);
          } catch {
            assert.throws(() => ofBytes(changed));
            return;
          }
          assert.deepEqual(written(ofBytes(changed)), written(reader.ofMessage(decoded)));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("decides what gateways usually send", () => {
    const usual = create(EventSchema, {
      eventId: "0198c0de-0000-7000-8000-000000000001",
      eventType: "order.created",
      title: "Bestellung für Zoë",
      message: "日本語",
      severity: 3,
      source: { service: "checkout", endpoint: "/api", method: "POST", version: "1" },
      context: { z: 1, a: [true, null, { y: "ü", b: {} }], user_id: "u" },
      metrics: { z: 1.5, a: -2 },
      payload: { nothing: null, empty: "" },
      timestamp: timestampFromMs(1_700_000_000_123),
      priority: 10,
    });
    assert.ok(scan(toBinary(EventSchema, usual)));
    assert.ok(scan(toBinary(EventSchema, create(EventSchema, { eventType: "x" }))));
  });

  test("equal events have equal digests, whatever the order of their maps", () => {
    const reversed = (value: unknown): unknown => {
      if (Array.isArray(value)) return value.map(reversed);
      if (typeof value !== "object" || value === null) return value;
      return Object.fromEntries(
        Object.entries(value)
          .reverse()
          .map(([key, each]) => [key, reversed(each)]),
      );
    };
    fc.assert(
      fc.property(
        json,
        fc.dictionary(text(8), fc.double({ noNaN: true }), { noNullPrototype: true }),
        (payload, metrics) => {
          const one = ofBytes(
            toBinary(EventSchema, create(EventSchema, { eventType: "t", payload, metrics })),
          );
          const other = ofBytes(
            toBinary(
              EventSchema,
              create(EventSchema, {
                eventType: "t",
                payload: reversed(payload) as JsonObject,
                metrics: reversed(metrics) as Record<string, number>,
              }),
            ),
          );
          assert.equal(digestOf(one), digestOf(other));
          assert.equal(one.violations === undefined, other.violations === undefined);
        },
      ),
    );
  });

  test("keeps every field: what is stored gives the event back, as does a row with the whole event", () => {
    const skews = fc.constantFrom(0, 0, 90_000);
    fc.assert(
      fc.property(event, skews, (sent, skewMs) => {
        const row = reader.ofMessage(sent);
        if (row.violations) return;
        const canonical = fromBinary(EventSchema, row.part(slot.event));
        assert.deepEqual(toJson(EventSchema, canonical), toJson(EventSchema, sent));
        correctClock(row, 1_700_000_000_000, skewMs);
        if (row.violations) return;
        assignId(row.numbers, row.base + slot.id);
        const stored = storedRow(row);
        const whole = rowToEvent({ ...stored, encoded: Buffer.from(row.part(slot.event)) });
        assert.deepEqual(rowToEvent(stored), whole);
        assert.deepEqual(whole.event?.metrics, canonical.metrics);
        if (skewMs === 0 && sent.timestamp) assert.deepEqual(whole.event?.timestamp, canonical.timestamp);
      }),
      { numRuns: 500 },
    );
  });

  test("writes metrics as JSON whatever their names, in any number", () => {
    const metrics = fc.dictionary(
      fc.string({ minLength: 1, maxLength: 30, unit: fc.constantFrom(...'ab"\\\n\u007f\u2028ä\u{1f600}') }),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      { maxKeys: 300, noNullPrototype: true },
    );
    fc.assert(
      fc.property(fc.array(metrics, { minLength: 1, maxLength: 10 }), (sent) => {
        const rows = sent.map((each) => {
          const row = newRow();
          const bytes = toBinary(EventSchema, create(EventSchema, { eventType: "t", metrics: each }));
          assert.ok(scanner.scanChecked(bytes, row));
          return row;
        });
        assert.deepEqual(
          elementsOf(eventColumns(rows)[9] as Buffer).map((text) => JSON.parse(String(text ?? "{}"))),
          sent,
        );
      }),
    );
  });

  test("takes the user from the context where none is given, up to 200 characters", () => {
    for (const [context, expected] of [
      [{ user_id: "ada" }, "ada"],
      [{ a: 1, user_id: "ä".repeat(300), z: 2 }, "ä".repeat(200)],
      [{ user_id: `${"x".repeat(199)}\u{1f600}` }, "x".repeat(199)],
      [{ user_id: 7 }, ""],
      [{ user_id: "" }, ""],
      [{ nested: { user_id: "no" } }, ""],
    ] as const) {
      const row = ofBytes(toBinary(EventSchema, create(EventSchema, { eventType: "t", context })));
      assert.equal(Buffer.from(row.part(slot.userId)).toString(), expected);
    }
  });
});

describe("requests as bytes", () => {
  const { ingestEvent, ingestEvents } = requestDecoders(reader);
  const events = [
    create(EventSchema, { eventId: "a", eventType: "t", context: { a: 1 } }),
    create(EventSchema, { eventId: "b c", eventType: "t" }),
    create(EventSchema, { eventType: "t", priority: 3 }),
  ];

  test("read as messages they are the usual ones", () => {
    const sentAt = timestampFromMs(1_700_000_000_000);
    const batch = create(IngestEventsRequestSchema, {
      events,
      allowPartial: true,
      sentAt,
      omitIfAllAccepted: true,
    });
    const read = ingestEvents(toBinary(IngestEventsRequestSchema, batch));
    assert.deepEqual([read.allowPartial, read.omitIfAllAccepted, read.sentAt], [true, true, sentAt]);
    assert.deepEqual(
      read.events.map((each) => each.eventId),
      events.map((each) => each.eventId),
    );
    assert.deepEqual(
      read.rows.map(({ violations }) => violations?.map(({ rule }) => rule)),
      [undefined, ["string.pattern"], undefined],
    );
    const single = create(IngestEventRequestSchema, { event: events[0] as Event, sentAt });
    const one = ingestEvent(toBinary(IngestEventRequestSchema, single));
    assert.ok(one instanceof ScannedEvent);
    assert.deepEqual([one.event, one.sentAt], [events[0], sentAt]);
  });

  test("what is empty, cut off or unknown is left to the usual way", () => {
    const whole = toBinary(IngestEventsRequestSchema, create(IngestEventsRequestSchema, { events }));
    for (const bytes of [
      new Uint8Array(0),
      whole.subarray(0, whole.length - 1),
      Uint8Array.from([...whole, 0x2a, 0]),
      Uint8Array.from([...whole, 0x1a, 3, 0x10, 0xff, 0xff]),
    ]) {
      assert.throws(() => ingestEvents(bytes));
    }
    const broken = create(IngestEventRequestSchema, { event: events[1] as Event });
    assert.throws(() => ingestEvent(toBinary(IngestEventRequestSchema, broken)));
  });
});

test("the encoded answer is the message, and its counts sum to the batch", () => {
  const outcome = fc.constantFrom("accepted", "duplicate", "conflict", "retry", "rejected");
  fc.assert(
    fc.property(fc.array(fc.tuple(outcome, eventId), { minLength: 1, maxLength: 20 }), (sent) => {
      const rows = sent.map(([status, id]) => {
        const row = reader.ofMessage(create(EventSchema, { eventId: id, eventType: "t" }));
        assignId(row.numbers, row.base + slot.id);
        if (status === "rejected") row.violations ??= [{ field: "f", description: "d", rule: "r" }];
        else row.status = status;
        return row;
      });
      const result = {
        rows,
        receivedAtMs: 1_700_000_000_123,
        skewMs: 5_000,
        retryDelayMs: 300,
        retryReason: "later",
      };
      const answer = fromBinary(IngestEventsResponseSchema, encodeAnswer(result));
      assert.deepEqual(
        answer.outcomes,
        rows.map((row) => outcomeOf(row, result)),
      );
      assert.deepEqual(
        [answer.receivedAt, answer.clockSkew?.seconds],
        [timestampFromMs(1_700_000_000_123), 5n],
      );
      const {
        total = 0,
        accepted = 0,
        duplicate = 0,
        conflict = 0,
        rejected = 0,
        retry = 0,
      } = answer.counts ?? {};
      assert.equal(total, rows.length);
      assert.equal(accepted + duplicate + conflict + rejected + retry, total);
      assert.equal(
        rejected,
        answer.outcomes.filter(({ status }) => status === OutcomeStatus.REJECTED).length,
      );
      const terse = fromBinary(IngestEventsResponseSchema, encodeAnswer(result, true));
      assert.deepEqual(terse, accepted === total ? { ...answer, outcomes: [] } : answer);
    }),
  );
});

test("ids are UUIDv7 in order, and keys of them are themselves", () => {
  const ids = Array.from({ length: 10_000 }, () => {
    const id = new Int32Array(4);
    assignId(id, 0);
    assert.ok(Math.abs(timeOfId(id, 0) - Date.now()) < 1_000);
    return uuidText(id, 0);
  });
  assert.deepEqual(ids.toSorted(), ids);
  assert.equal(new Set(ids).size, ids.length);
  for (const id of ids.slice(0, 10)) {
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.equal(eventKey(id), id);
    assert.ok(Math.abs(timeOfUuidv7(id).getTime() - Date.now()) < 10_000);
    for (const other of [
      id.toUpperCase(),
      `${id} `,
      id.replaceAll("-", "_"),
      `f${id.slice(1)}`.replace(/^f./, "ff"),
    ]) {
      assert.match(eventKey(other), /^ff/);
      assert.notEqual(eventKey(other), other);
    }
  }
});
