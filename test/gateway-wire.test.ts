import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { create, fromBinary, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import fc from "fast-check";
import { toPulsewireError } from "../sdk/src/connect-errors.ts";
import { readOutcomes, toIngestRequest } from "../sdk/src/event-batches.ts";
import { copyEvent, maxCopyBytes } from "../sdk/src/event-copy.ts";
import type { EventInput } from "../sdk/src/event-input.ts";
import { EventPacker } from "../sdk/src/event-packer.ts";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../sdk/src/gen/google/rpc/error_details_pb.js";
import { compressPieces } from "../sdk/src/gzip.ts";
import {
  EventSchema,
  IngestEventsRequestSchema,
  IngestEventsResponseSchema,
  MetricKind,
  OutcomeStatus,
  type ProgressInput,
  type PulsewireError,
  ReportProgressRequestSchema,
  ReportProgressResponseSchema,
  ReportResult,
  Severity,
  type SeverityName,
  WriteSamplesRequestSchema,
  WriteSamplesResponseSchema,
} from "../sdk/src/index.ts";
import { EventPages, type PackedEvent } from "../sdk/src/packed-event.ts";
import { packReport, readReportResult } from "../sdk/src/reports.ts";
import { groupSamples, readSampleOutcomes, SamplePacker, toSamplesRequest } from "../sdk/src/samples.ts";
import { errorOf } from "../sdk/src/unary/status.ts";

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
        for (const events of [
          packed,
          packed.map(({ bytes }) => pages.copy(Buffer.from(bytes), 0, bytes.length)),
        ]) {
          const request = fromBinary(IngestEventsRequestSchema, Buffer.concat(toIngestRequest(events)));
          assert.ok(request.sentAt);
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

  test("a copy is encoded to the same, and left alone by what becomes of its objects", () => {
    const flat = fc.dictionary(
      text.filter((key) => key !== "__proto__"),
      fc.oneof(text, fc.double(), fc.boolean(), fc.constant(null)),
      { maxKeys: 6 },
    );
    const packer = new EventPacker();
    const small = fc.record(
      {
        eventType: text,
        eventId: fc.string({ minLength: 1, maxLength: 200 }),
        title: text,
        severity: fc.constantFrom<SeverityName>("info", "error"),
        context: flat,
        payload: flat,
        sessionId: text,
        timestamp: fc.oneof(fc.integer({ min: 0, max: 10 ** 13 }), fc.date({ noInvalidDate: true })),
        priority: fc.integer({ min: 1, max: 10 }),
      },
      { requiredKeys: ["eventType", "eventId", "timestamp"] },
    );
    let copied = 0;
    fc.assert(
      fc.property(small, (event) => {
        const { bytes, size } = packer.pack(event);
        const copy = copyEvent(event);
        if (!copy) return;
        copied++;
        assert.ok(size <= maxCopyBytes);
        for (const object of [event.payload, event.context]) {
          if (object) Object.assign(object, { more: 1n });
        }
        assert.deepEqual(packer.pack(copy).bytes, bytes);
      }),
    );
    assert.ok(copied > 5, `${copied} were copied`);
    for (const odd of [
      { eventType: 5 },
      { eventId: "" },
      { severity: "bad" },
      { priority: 1.5 },
      { timestamp: Number.NaN },
      { payload: "text" },
      { payload: null },
      { payload: [1] },
      { payload: new Date() },
      { payload: { big: 1n } },
      { payload: { deep: {} } },
      { payload: { call() {} } },
      { payload: { nothing: undefined } },
      { message: "m".repeat(2_000) },
    ]) {
      assert.equal(copyEvent({ eventType: "x", ...odd } as EventInput), undefined, Object.keys(odd).join());
    }
  });

  test("an event that is queued while another is read does not come to lie within it", () => {
    const packer = new EventPacker();
    const inner: PackedEvent[] = [];
    const noisy = {
      toJSON() {
        inner.push(packer.pack({ eventId: `inner-${inner.length}`, eventType: "x" }));
        return "noisy";
      },
    };
    const { bytes } = packer.pack({ eventId: "outer", eventType: "x", payload: { noisy, more: [noisy] } });
    const [outer] = fromBinary(IngestEventsRequestSchema, bytes).events;
    assert.deepEqual(outer?.payload, { noisy: "noisy", more: ["noisy"] });
    assert.deepEqual(
      inner.map((event) => fromBinary(IngestEventsRequestSchema, event.bytes).events[0]?.eventId),
      inner.map((_, index) => `inner-${index}`),
    );
    assert.ok(inner.length >= 2);
  });

  test("pages are used again when all in them is settled, and not while anything may read them", () => {
    const packer = new EventPacker();
    const pack = (count: number) =>
      Array.from({ length: count }, () => packer.pack({ eventType: "x", message: "m".repeat(1_000) }));
    const events = Map.groupBy(pack(200), ({ page }) => page);
    const [kept = [], retired = [], freed = []] = [...events.values()];
    // Events are used again, too.
    const before = [kept, retired, freed].map(([event]) => event?.page);
    const bytes = kept[0]?.page.bytes.slice();
    retired[0]?.page.retire();
    for (const event of [...kept.slice(1), ...retired, ...freed]) event.free();
    const pages = new Set(pack(200).map(({ page }) => page));
    assert.deepEqual(
      before.map((page) => page && pages.has(page)),
      [false, false, true],
    );
    assert.deepEqual(kept[0]?.page.bytes, bytes);
  });

  test("an event that ends anywhere near the end of a page is whole", () => {
    const same = { eventId: "e", eventType: "x", timestamp: 1_767_225_600_123, priority: 3 };
    const whole = new EventPacker().pack({ ...same, userId: "u".repeat(20) });
    // All places that an event can have at the end of a page come about, for the first one moves all others.
    for (let length = 0; length <= whole.size; length++) {
      const packer = new EventPacker();
      packer.pack({ ...same, title: "t".repeat(length + 100) });
      for (let packed = 0; packed <= 66_000; packed += whole.size) {
        assert.deepEqual(packer.pack({ ...same, userId: "u".repeat(20) }).bytes, whole.bytes);
      }
    }
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

/** Bytes of a field of a later version: number 100, a number. */
const later = Buffer.from([0xa0, 0x06, 0x05]);
const outcomeInits = fc.record({
  status: fc.constantFrom(
    OutcomeStatus.ACCEPTED,
    OutcomeStatus.DUPLICATE,
    OutcomeStatus.CONFLICT,
    OutcomeStatus.REJECTED,
    OutcomeStatus.RETRY,
  ),
  id: fc.string({ maxLength: 200 }),
  field: text,
  code: fc.string(),
  message: text,
  retryDelay: fc.option(
    fc.record({ seconds: fc.bigInt({ min: 0n, max: 10_000n }), nanos: fc.nat(999_999_999) }),
    { nil: undefined },
  ),
});

type OutcomeInit = typeof outcomeInits extends fc.Arbitrary<infer T> ? T : never;

/** What is to be read of an outcome. */
function expectedOutcome({ status, field, code, message, retryDelay }: OutcomeInit) {
  switch (status) {
    case OutcomeStatus.CONFLICT:
      return { status: "conflict", code, message };
    case OutcomeStatus.REJECTED:
      return { status: "rejected", field, code, message };
    case OutcomeStatus.RETRY:
      return {
        status: "retry",
        ...(retryDelay && { delayMs: Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6 }),
      };
    default:
      return { status: String(OutcomeStatus[status]).toLowerCase() };
  }
}

describe("what gateways read and write without Protobuf's own library is what it reads and writes", () => {
  test("outcomes of events", () => {
    fc.assert(
      fc.property(fc.array(outcomeInits, { maxLength: 50 }), fc.boolean(), (outcomes, more) => {
        const response = create(IngestEventsResponseSchema, {
          counts: { total: outcomes.length },
          outcomes: outcomes.map(({ retryDelay, ...rest }) => ({
            ...rest,
            ...(retryDelay && { retryDelay }),
          })),
          receivedAt: timestampFromMs(1),
        });
        const bytes = toBinary(IngestEventsResponseSchema, response);
        const read = readOutcomes(more ? Buffer.concat([later, bytes, later]) : bytes, outcomes.length);
        assert.deepEqual(read, outcomes.map(expectedOutcome));
      }),
    );
  });

  test("outcomes that an answer leaves out, because all was accepted", () => {
    const read = (total: number, acceptedCount: number, sent: number) => {
      const counts = { total, accepted: acceptedCount };
      const response = create(IngestEventsResponseSchema, { counts, receivedAt: timestampFromMs(1) });
      return readOutcomes(toBinary(IngestEventsResponseSchema, response), sent);
    };
    assert.deepEqual(read(3, 3, 3), Array(3).fill({ status: "accepted" }));
    assert.deepEqual(read(2, 2, 3), []);
    assert.deepEqual(read(3, 2, 3), []);
    assert.deepEqual(readOutcomes(new Uint8Array(0), 3), []);
  });

  test("batches in gzip, several at the same time, with memory that is used again", async () => {
    const pieces = fc.array(fc.uint8Array({ maxLength: 40_000 }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(fc.array(pieces, { minLength: 1, maxLength: 6 }), async (batches) => {
        const compressed = await Promise.all(batches.map((batch) => compressPieces(batch)));
        for (const [index, bytes] of compressed.entries()) {
          assert.ok(gunzipSync(bytes).equals(Buffer.concat(batches[index] ?? [])));
        }
      }),
      { numRuns: 30 },
    );
  });

  test("samples, and their outcomes", () => {
    const labels = fc.dictionary(
      text.filter((key) => key !== "__proto__"),
      text,
      { maxKeys: 4 },
    );
    const sample = fc.record({
      name: fc.constantFrom("cpu", "ünïcode", ""),
      value: fc.double({ noNaN: true, noDefaultInfinity: true }),
      labels,
      unit: fc.constantFrom("", "percent"),
      kind: fc.constantFrom("gauge" as const, "counter" as const),
      timestamp: fc.integer({ min: -(10 ** 12), max: 10 ** 13 }),
      storeId: fc.constantFrom("", "0198f0c2-0000-7000-8000-000000000000"),
    });
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 30 }), text, (given, storeId) => {
        const packer = new SamplePacker();
        const samples = given.map(({ name, value, ...options }) => packer.pack(name, value, options));
        const groups = groupSamples(samples);
        const { series, ...rest } = fromBinary(
          WriteSamplesRequestSchema,
          toSamplesRequest(groups, samples, storeId),
        );
        assert.deepEqual(
          {
            storeId: rest.storeId,
            allowPartial: rest.allowPartial,
            sentAt: rest.sentAt,
            unknown: rest.$unknown,
          },
          { storeId, allowPartial: true, sentAt: undefined, unknown: undefined },
        );
        const read = series.flatMap((group, index) =>
          group.values.map((value, position) => ({
            index: groups[index]?.indices[position] as number,
            name: group.name,
            value,
            labels: group.labels,
            unit: group.unit,
            kind: group.kind,
            storeId: group.storeId,
            ms:
              Number(group.baseTime?.seconds) * 1000 +
              (group.baseTime?.nanos ?? 0) / 1e6 +
              (group.offsetsMs[position] as number),
          })),
        );
        assert.deepEqual(
          read.sort((a, b) => a.index - b.index),
          given.map(({ timestamp, kind, ...fields }, index) => ({
            ...fields,
            labels: { ...fields.labels },
            index,
            kind: kind === "counter" ? MetricKind.COUNTER : MetricKind.GAUGE,
            ms: timestamp,
          })),
        );
      }),
    );
    fc.assert(
      fc.property(outcomeInits, fc.nat(2), ({ retryDelay, ...outcome }, index) => {
        const packer = new SamplePacker();
        const samples = [0, 1, 2, 0].map((series) => packer.pack(`s${series}`, 1, { timestamp: 1e12 }));
        const groups = groupSamples(samples);
        const given = { ...outcome, ...(retryDelay && { retryDelay }) };
        const response = create(WriteSamplesResponseSchema, {
          counts: { total: 4 },
          failures: [{ index, sampleCount: 1, outcome: given }],
        });
        const bytes = Buffer.concat([toBinary(WriteSamplesResponseSchema, response), later]);
        const fails = (position: number) => groups[index]?.indices.includes(position);
        assert.deepEqual(
          readSampleOutcomes(groups, 4, bytes),
          [0, 1, 2, 3].map((at) =>
            fails(at) ? expectedOutcome({ ...outcome, retryDelay }) : { status: "accepted" },
          ),
        );
      }),
    );
  });

  test("reports of progress, and their results", () => {
    const count = fc.integer({ min: -5, max: Number.MAX_SAFE_INTEGER });
    const issues = fc.array(fc.record({ line: count, message: text, rawLine: text }), { maxLength: 3 });
    const input: fc.Arbitrary<ProgressInput> = fc.record(
      {
        clientKrn: text,
        filename: text,
        done: count,
        warn: count,
        failed: count,
        total: count,
        isLast: fc.boolean(),
        errors: issues,
        warnings: issues,
        updateId: fc.string({ minLength: 1 }),
        email: text,
      },
      { requiredKeys: ["clientKrn", "filename", "updateId"] },
    );
    const longs = (list: ProgressInput["errors"]) =>
      (list ?? []).map((each) => ({ ...each, line: BigInt(each.line) }));
    fc.assert(
      fc.property(input, (given) => {
        const { done = 0, warn = 0, failed = 0, total = 0, errors, warnings, ...rest } = given;
        const expected = create(ReportProgressRequestSchema, {
          ...rest,
          counts: { done: BigInt(done), warn: BigInt(warn), failed: BigInt(failed) },
          total: BigInt(total),
          errors: longs(errors),
          warnings: longs(warnings),
        });
        const packed = packReport(given);
        assert.deepEqual(fromBinary(ReportProgressRequestSchema, packed.bytes), expected);
        const { clientKrn, filename, updateId, isLast } = expected;
        assert.deepEqual(packed.identity, { clientKrn, filename, updateId, isLast });
      }),
    );
    for (const result of [ReportResult.CREATED, ReportResult.UPDATED, ReportResult.DUPLICATE]) {
      const response = create(ReportProgressResponseSchema, { result, progress: { filename: "a" } });
      const { status } = readReportResult(toBinary(ReportProgressResponseSchema, response));
      assert.equal(status, result === ReportResult.DUPLICATE ? "duplicate" : "accepted");
    }
    const wrong = { clientKrn: "k", filename: "f" };
    assert.throws(() => packReport({ ...wrong, done: 1.5 }), RangeError);
    assert.throws(() => packReport({ ...wrong, filename: 5 as unknown as string }), TypeError);
  });

  test("details of errors", () => {
    fc.assert(
      fc.property(
        fc.constantFrom("pulsewire", "other.example"),
        fc.constantFrom("RATE_LIMITED", ""),
        fc.dictionary(
          text.filter((key) => key !== "__proto__"),
          text,
          { maxKeys: 3 },
        ),
        fc.array(fc.record({ field: text, description: text }), { maxLength: 3 }),
        fc.option(fc.record({ seconds: fc.bigInt({ min: 0n, max: 100n }), nanos: fc.nat(999_999_999) })),
        fc.option(fc.constantFrom("7", "soon", "Sun, 06 Nov 1994 08:49:37 GMT")),
        (domain, reason, metadata, fieldViolations, retryDelay, retryAfter) => {
          const headers = new Headers(retryAfter === null ? {} : { "retry-after": retryAfter });
          const error = new ConnectError("no", Code.ResourceExhausted, headers);
          const detail = (schema: Parameters<typeof toBinary>[0], init: Record<string, unknown>) => ({
            type: schema.typeName,
            value: toBinary(schema, create(schema, init)),
          });
          error.details = [
            detail(ErrorInfoSchema, { domain, reason, metadata }),
            ...(retryDelay ? [detail(RetryInfoSchema, { retryDelay })] : []),
            detail(BadRequestSchema, { fieldViolations }),
          ];
          const said = ({
            code,
            message,
            reason: word,
            metadata: more,
            violations,
            retryDelayMs,
          }: PulsewireError) => ({
            code,
            message,
            word,
            more,
            violations,
            retryDelayMs,
          });
          const read = errorOf(
            Code.ResourceExhausted,
            "no",
            error.details.map((each) => each as { type: string; value: Uint8Array }),
            headers,
          );
          assert.deepEqual(said(read), said(toPulsewireError(error)));
        },
      ),
    );
  });
});
