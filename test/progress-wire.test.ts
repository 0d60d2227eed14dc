/** Reports that are read by hand, and answers that are written by hand, are those of the library, to the byte. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, fromBinary, fromJsonString, toBinary, toJsonString } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  type ReportProgressRequest,
  ReportResult,
  ReportProgressRequestSchema as RequestSchema,
  ReportProgressResponseSchema as ResponseSchema,
} from "../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { createCountedReports } from "../server/src/progress/counted-report.ts";
import type { FileState } from "../server/src/progress/fold.ts";
import { toProgress } from "../server/src/progress/messages.ts";
import { type ReadReport, readReportBytes, readReportJson } from "../server/src/progress/read-report.ts";

const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });

describe("answers to reports", () => {
  const count = fc.oneof(
    fc.bigInt({ min: 0n, max: 1n << 62n }),
    fc.bigInt({ min: 0n, max: BigInt(Number.MAX_SAFE_INTEGER) }),
    fc.bigInt({ min: 0n, max: 300n }),
  );
  const small = fc.bigInt({ min: 0n, max: 1_000_000n });
  const time = fc.oneof(
    fc.integer({ min: 1_000, max: 4_102_444_800_000 }),
    fc.integer({ min: 1, max: 4_102_444_800 }).map((seconds) => seconds * 1_000),
  );
  const name = fc.oneof(fc.string({ maxLength: 60 }), fc.string({ unit: "grapheme", maxLength: 60 }));
  const file = fc
    .record({
      id: fc.uuid(),
      creator: fc.record({ email: name, apiKeyId: fc.constant(null) }),
      done: count,
      warn: count,
      failed: count,
      total: fc.option(small, { nil: null }),
      version: small,
      recent: fc.double({ min: 0, max: 1e12, noNaN: true }),
      errorCount: small,
      warningCount: small,
      hasErrors: fc.boolean(),
      hasUpdateIds: fc.boolean(),
      createdAt: time,
      age: fc.nat(1_000_000_000),
      completedAfter: fc.option(fc.nat(1_000), { nil: null }),
    })
    .map(({ createdAt, age, completedAfter, ...rest }): FileState => {
      const updatedAt = new Date(createdAt + age);
      const completedAt = completedAfter === null ? null : new Date(createdAt + completedAfter);
      return { ...rest, createdAt: new Date(createdAt), updatedAt, completedAt };
    });
  /** What another report that was counted with it adds. */
  const further = fc.record({
    done: small,
    warn: small,
    recent: fc.double({ min: 0, max: 1e6, noNaN: true }),
  });
  const times = fc.record({ stallMs: fc.constantFrom(0, 300_000), graceMs: fc.constantFrom(0, 60_000) });
  const results = fc.constantFrom(ReportResult.CREATED, ReportResult.UPDATED, ReportResult.DUPLICATE);

  test("are those that the library writes, whatever was answered before", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(file, fc.array(further, { maxLength: 3 })), { minLength: 1, maxLength: 3 }),
        name,
        name,
        times,
        results,
        (files, clientKrn, filename, times, result) => {
          const answerTo = createCountedReports(times);
          for (const [first, others] of files) {
            const states = [first];
            for (const { done, warn, recent } of others) {
              const last = states.at(-1) as FileState;
              states.push({
                ...last,
                done: last.done + done,
                warn: last.warn + warn,
                recent: last.recent + recent,
              });
            }
            for (const state of states) {
              const progress = toProgress(clientKrn, filename, state, state.updatedAt, times);
              const expected = create(ResponseSchema, { result, progress });
              const answer = answerTo(result, state, { clientKrn, filename });
              assert.equal(answer.json(), toJsonString(ResponseSchema, expected));
              assert.deepEqual(Buffer.from(answer.bytes()), Buffer.from(toBinary(ResponseSchema, expected)));
              assert.deepEqual(answer.message, expected);
              assert.equal(answer.progress, answer.message.progress);
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe("reports", () => {
  const number = fc.oneof(
    fc.bigInt({ min: 0n, max: 1_000_000_000n }),
    fc.bigInt({ min: -5n, max: (1n << 63n) - 1n }),
  );
  const word = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.string({ unit: "grapheme", maxLength: 10 }),
    ...["krn:demo:client:a", "orders.csv", "", "a b", 'a"b', "__proto__"].map((text) => fc.constant(text)),
  );
  const request = fc
    .record({
      clientKrn: word,
      filename: word,
      counts: maybe(fc.record({ done: number, warn: number, failed: number }, { requiredKeys: [] })),
      total: fc.oneof(fc.constant(0n), number),
      isLast: fc.boolean(),
      updateId: word,
      email: word,
      errors: fc.oneof(
        fc.constant([]),
        fc.array(fc.record({ line: number, message: word }), { maxLength: 1 }),
      ),
      requestId: fc.constantFrom("", "", "r"),
    })
    .map((fields) => create(RequestSchema, fields as never));

  const assertSame = (read: ReadReport | undefined, expected: ReportProgressRequest) => {
    if (!read) return 0;
    // As everybody sees it who looks at messages.
    assert.deepEqual(
      Buffer.from(toBinary(RequestSchema, read)),
      Buffer.from(toBinary(RequestSchema, expected)),
    );
    for (const { localName } of RequestSchema.fields)
      assert.deepEqual(read[localName as "email"], expected[localName as "email"]);
    return 1;
  };

  test("are read as the library reads them", () => {
    const read = { json: 0, bytes: 0 };
    fc.assert(
      fc.property(request, (message) => {
        const text = toJsonString(RequestSchema, message);
        read.json += assertSame(readReportJson(text), fromJsonString(RequestSchema, text));
        const bytes = toBinary(RequestSchema, message);
        read.bytes += assertSame(readReportBytes(bytes), fromBinary(RequestSchema, bytes));
      }),
      { numRuns: 1_000 },
    );
    assert.ok(read.json > 20 && read.bytes > 20, JSON.stringify(read));
  });

  /** A few characters of a text changed, taken out or put in. */
  const damage = fc.array(
    fc.record({
      at: fc.nat(),
      take: fc.nat(2),
      put: fc.constantFrom(
        "",
        '"',
        ",",
        "0",
        "1",
        ".",
        "-",
        "e",
        "{",
        "}",
        " ",
        "\n",
        "\t",
        "\\",
        "\u00a0",
        ":",
        "null",
        '"done":"1",',
        '"total":7,',
      ),
    }),
    { minLength: 1, maxLength: 3 },
  );
  const plain =
    '{"clientKrn":"krn:demo:client:a","filename":"b.csv","counts":{"done":"12","warn":3},"total":40,"isLast":true}';

  test("in JSON that is wrong or odd are left to the library, or read as it does", () => {
    let refused = 0;
    fc.assert(
      fc.property(damage, (damages) => {
        let text = plain;
        for (const { at, take, put } of damages) {
          const place = at % text.length;
          text = text.slice(0, place) + put + text.slice(place + take);
        }
        const read = readReportJson(text);
        if (!read) {
          refused++;
          return;
        }
        assertSame(read, fromJsonString(RequestSchema, text));
      }),
      { numRuns: 3_000 },
    );
    assert.ok(refused > 100, String(refused));
    assert.ok(readReportJson(plain));
  });

  test("in Protobuf that is wrong or odd are left to the library, or read as it does", () => {
    const good = toBinary(
      RequestSchema,
      create(RequestSchema, {
        clientKrn: "krn:demo:client:a",
        filename: "b",
        counts: { done: 300n },
        total: 5n,
        isLast: true,
      }),
    );
    let readable = 0;
    fc.assert(
      fc.property(
        fc.array(fc.record({ at: fc.nat(), take: fc.nat(2), put: fc.uint8Array({ maxLength: 3 }) }), {
          maxLength: 2,
        }),
        (damages) => {
          let bytes = Buffer.from(good);
          for (const { at, take, put } of damages) {
            const place = at % bytes.length;
            bytes = Buffer.concat([bytes.subarray(0, place), put, bytes.subarray(place + take)]);
          }
          readable += assertSame(
            readReportBytes(bytes),
            readReportBytes(bytes) ? fromBinary(RequestSchema, bytes) : create(RequestSchema),
          );
        },
      ),
      { numRuns: 3_000 },
    );
    assert.ok(readable > 100, String(readable));
  });

  test("share nothing that somebody could write into", () => {
    const [one, other] = [readReportJson(plain), readReportJson(plain)];
    assert.throws(() => one?.errors.push({} as never));
    assert.notEqual(one?.counts, other?.counts);
  });
});
