/** Answers of ReportProgress that are written by hand are those of the library, to the byte. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import {
  ProgressSchema,
  ReportProgressResponseSchema,
} from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { encodeReportAnswer } from "../server/src/progress/wire.ts";

const count = fc.oneof(
  fc.bigInt({ min: 0n, max: BigInt(Number.MAX_SAFE_INTEGER) }),
  fc.bigInt({ min: 0n, max: 300n }),
);
const time = fc.integer({ min: 0, max: 4_102_444_800_000 }).map(timestampFromMs);
const name = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: "grapheme", maxLength: 60 }));
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

const progress = fc
  .record({
    id: fc.uuid(),
    clientKrn: name,
    filename: name,
    email: name,
    counts: fc.record({ done: count, warn: count, failed: count }),
    total: maybe(count),
    isCompleted: fc.boolean(),
    createdAt: time,
    updatedAt: time,
    version: count,
    errorCount: count,
    warningCount: count,
    rate: fc.double(),
    percentage: maybe(fc.double()),
    eta: maybe(time),
    stalled: fc.boolean(),
    stallsAt: maybe(time),
    completedAt: maybe(time),
    finalAt: maybe(time),
  })
  .map((fields) => fields as MessageInitShape<typeof ProgressSchema>);

test("the bytes are those that the library writes", () => {
  let written = 0;
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 3 }), progress, (result, fields) => {
      const message = create(ReportProgressResponseSchema, { result, progress: fields });
      const bytes = encodeReportAnswer(message);
      if (!bytes) return;
      written++;
      assert.deepEqual(Buffer.from(bytes), Buffer.from(toBinary(ReportProgressResponseSchema, message)));
    }),
    { numRuns: 500 },
  );
  assert.ok(written > 100, String(written));
});

test("every field of a file is written", () => {
  const at = timestampFromMs(1_800_000_000_123);
  const all = Object.fromEntries(
    ProgressSchema.fields.map((field) => {
      if (field.fieldKind === "message")
        return [field.localName, field.localName === "counts" ? { done: 1n } : at];
      const example = { string: "x", bigint: 7n, boolean: true, number: 1.5 };
      const empty = create(ProgressSchema)[field.localName as "id"] as unknown;
      return [field.localName, field.localName === "total" ? 7n : example[typeof (empty ?? 0) as "string"]];
    }),
  );
  const fields = { ...all, id: "a name that makes it long enough ".repeat(4) };
  const message = create(ReportProgressResponseSchema, { result: 1, progress: fields });
  const bytes = encodeReportAnswer(message);
  assert.ok(bytes);
  assert.deepEqual(fromBinary(ReportProgressResponseSchema, bytes), message);
});

test("what is out of the ordinary is left to the library", () => {
  const encoded = (fields: MessageInitShape<typeof ProgressSchema>) =>
    encodeReportAnswer(create(ReportProgressResponseSchema, { progress: fields }));
  assert.equal(encoded({}), undefined);
  assert.equal(encoded({ counts: { done: 1n << 60n } }), undefined);
  assert.equal(encoded({ counts: {}, version: -1n }), undefined);
  const issue = { line: 1n, message: "m" };
  const withIssue = create(ReportProgressResponseSchema, { progress: { counts: {} }, errors: [issue] });
  assert.equal(encodeReportAnswer(withIssue), undefined);
});
