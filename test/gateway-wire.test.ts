import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { EmptySchema, timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { readOutcomes } from "../sdk/src/event-batches.ts";
import { type EventInput, EventPacker, EventPages, toIngestRequest } from "../sdk/src/events.ts";
import {
  EventSchema,
  IngestEventsRequestSchema,
  IngestEventsResponseSchema,
  OutcomeStatus,
  Severity,
  type SeverityName,
} from "../sdk/src/index.ts";

const text = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.string({ unit: "binary", maxLength: 200 }),
  fc.string({ minLength: 90, maxLength: 400 }),
);
const objects = fc.dictionary(
  text.filter((key) => key !== "__proto__"),
  fc.jsonValue({ maxDepth: 4 }),
  { maxKeys: 6 },
);
const inputs: fc.Arbitrary<EventInput> = fc.record(
  {
    eventType: text,
    eventId: fc.string({ minLength: 1, maxLength: 200 }),
    title: text,
    message: fc.string({ unit: "grapheme", maxLength: 3_000, size: "max" }),
    severity: fc.constantFrom<SeverityName | Severity>("debug", "warning", "critical", Severity.ERROR),
    source: fc.record({ service: text, method: text }, { requiredKeys: [] }),
    context: objects,
    metadata: objects,
    payload: objects,
    metrics: fc.dictionary(
      text.filter((key) => key !== "__proto__"),
      fc.double({ noNaN: true }),
      { maxKeys: 4 },
    ),
    userId: text,
    sessionId: text,
    timestamp: fc.integer({ min: -(10 ** 12), max: 10 ** 13 }),
    priority: fc.integer({ min: 1, max: 10 }),
  },
  { requiredKeys: ["eventType"] },
);

/** What Protobuf's own library makes of it. */
function expected(input: EventInput, eventId: string) {
  const { severity, timestamp, context, metadata, payload, ...rest } = input;
  const json = (value: object) => JSON.parse(JSON.stringify(value)) as JsonObject;
  const numbers = { debug: Severity.DEBUG, warning: Severity.WARNING, critical: Severity.CRITICAL } as Record<
    string,
    Severity
  >;
  const message = create(EventSchema, {
    priority: 1,
    ...rest,
    eventId,
    ...(severity !== undefined && { severity: numbers[severity] ?? (severity as Severity) }),
    timestamp: timestampFromMs(Number(timestamp)),
    ...(context && { context: json(context) }),
    ...(metadata && { metadata: json(metadata) }),
    ...(payload && { payload: json(payload) }),
  });
  return fromBinary(EventSchema, toBinary(EventSchema, message));
}

describe("events on the wire", () => {
  test("are what Protobuf's own library makes of them, in pages and read back from a spool", () => {
    const [packer, pages] = [new EventPacker(), new EventPages()];
    fc.assert(
      fc.property(fc.array(inputs, { minLength: 1, maxLength: 8 }), (batch) => {
        const given = batch.map((input) => ({ timestamp: 1_767_225_600_123, ...input }));
        const packed = given.map((input) => packer.pack(input));
        for (const events of [packed, packed.map(({ bytes }) => pages.copy(bytes))]) {
          const request = fromBinary(
            IngestEventsRequestSchema,
            toBinary(IngestEventsRequestSchema, toIngestRequest(events)),
          );
          assert.equal(request.allowPartial, true);
          assert.equal(request.events.length, given.length);
          for (const [index, event] of request.events.entries()) {
            assert.deepEqual(event, expected(given[index] as EventInput, event.eventId));
            assert.equal(events[index]?.id, event.eventId);
            assert.equal(events[index]?.priority, given[index]?.priority ?? 1);
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  test("read objects as JSON.stringify does", () => {
    const packer = new EventPacker();
    class Money {
      readonly cents = 5;
      toJSON() {
        return `${this.cents} ct`;
      }
    }
    const payload = {
      date: new Date(0),
      money: new Money(),
      nothing: undefined,
      call() {},
      list: [undefined, () => {}, Symbol("s"), Number.NaN, -0, new Date(0), [[]]],
      infinite: Number.POSITIVE_INFINITY,
      boxed: [new Number(1), new String("s"), new Boolean(false)],
      map: new Map([["a", 1]]),
      nested: { deep: { deeper: {} } },
    };
    const { bytes } = packer.pack({ eventType: "x", payload });
    const [event] = fromBinary(IngestEventsRequestSchema, bytes).events;
    assert.deepEqual(event?.payload, JSON.parse(JSON.stringify(payload)));
  });

  test("refuse what cannot be sent, and go on", () => {
    const packer = new EventPacker();
    const bad = [
      { eventType: 5 },
      { eventId: "" },
      { payload: { big: 1n } },
      { severity: "bad" },
      { priority: -1 },
      { timestamp: Number.NaN },
      { metrics: { a: "1" } },
      { payload: "text" },
    ];
    for (const fields of bad) {
      assert.throws(
        () => packer.pack({ eventType: "x", ...fields } as EventInput),
        TypeError,
        Object.keys(fields)[0],
      );
    }
    const { bytes } = packer.pack({ eventId: "good", eventType: "x" });
    assert.equal(fromBinary(IngestEventsRequestSchema, bytes).events[0]?.eventId, "good");
  });

  test("ids made here are UUIDv7, of their time and unlike each other", () => {
    const packer = new EventPacker();
    const before = Date.now();
    const ids = Array.from({ length: 20_000 }, () => packer.pack({ eventType: "x" }).id);
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) {
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      const madeAt = Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16);
      assert.ok(madeAt >= before && madeAt <= Date.now());
    }
  });
});

test("outcomes are read alike in one piece and field by field, also with fields of a later version", () => {
  const status = fc.constantFrom(
    OutcomeStatus.ACCEPTED,
    OutcomeStatus.DUPLICATE,
    OutcomeStatus.REJECTED,
    OutcomeStatus.RETRY,
  );
  const outcome = fc.record({ status, id: fc.string({ maxLength: 200 }), code: fc.string() });
  fc.assert(
    fc.property(fc.array(outcome, { maxLength: 50 }), fc.boolean(), (outcomes, later) => {
      const response = create(IngestEventsResponseSchema, { counts: { total: outcomes.length }, outcomes });
      // Field 100, a number.
      const more = later ? Buffer.from([0xa0, 0x06, 0x05]) : Buffer.alloc(0);
      const bytes = Buffer.concat([toBinary(IngestEventsResponseSchema, response), more]);
      const whole = create(EmptySchema);
      whole.$unknown = [{ no: 0, wireType: 2, data: bytes }];
      const read = readOutcomes(whole);
      assert.deepEqual(read, readOutcomes(fromBinary(EmptySchema, bytes)));
      assert.deepEqual(
        read.map(({ status: word }) => word.toUpperCase()),
        outcomes.map(({ status: number }) => OutcomeStatus[number]),
      );
    }),
  );
});
