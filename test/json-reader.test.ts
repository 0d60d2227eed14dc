import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  createRegistry,
  type DescField,
  type DescMessage,
  fromJsonString,
  ScalarType,
} from "@bufbuild/protobuf";
import fc from "fast-check";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { jsonReader, readQuickly } from "../server/src/listener/lean/json-reader.ts";
import { contractServices } from "../server/src/services.ts";

const options = { ignoreUnknownFields: false, registry: createRegistry() };
const requests = contractServices.flatMap(({ methods }) => methods.map(({ input }) => input));

/** JSON text that any value may be replaced by: of the wrong type, at the edge, or written in an unusual way. */
const odd = fc.constantFrom(
  ...["null", "true", '""', '"x"', "0", "-0", "1.5", "1e999", "-1", '"-1"', "2147483648", "4294967295"],
  ...['"9223372036854775808"', '"18446744073709551615"', '"007"', '"1e3"', "9007199254740993", '"NaN"'],
  ...["[]", "{}", "[null]", '{"a":1}', '{"a":1,"a":2}', '{"a":"\\u003a","a":1}', '{"a":1,"a":"\\u003A"}'],
  ...['{"__proto__":1}', '{"a":{"__proto__":{"b":":"}}}', '"\\ud800"', '{"\\ud800":1}', '"\\u0000"', '"a:b"'],
  ...[
    '"2024-02-30T00:00:00Z"',
    '"2024-01-01T24:00:00Z"',
    '"1969-12-31T23:59:59Z"',
    '"2024-01-01T00:00:00+01:00"',
  ],
  ...[
    '"0000-01-01T00:00:00Z"',
    '"2024-01-01T00:00:60Z"',
    '"2024-01-01t00:00:00Z"',
    '"-3.5s"',
    '"a_b"',
    '"AQ"',
  ],
  `${'{"a":'.repeat(60)}1${"}".repeat(60)}`,
  `${"[".repeat(120)}${"]".repeat(120)}`,
);

/** Ordinary text of a value, by the type of its field. */
function ordinary(field: DescField, depth: number): fc.Arbitrary<string> {
  switch (field.fieldKind) {
    case "scalar":
      return scalar(field.scalar);
    case "enum":
      return fc.constantFrom(...field.enum.values.map(({ name }) => JSON.stringify(name)));
    case "message":
      return message(field.message, depth);
    case "list":
      return fc.array(item(field, depth), { maxLength: 3 }).map((items) => `[${items.join()}]`);
    case "map":
      return fc
        .array(fc.tuple(fc.string({ maxLength: 6 }), item(field, depth)), { maxLength: 3 })
        .map(
          (entries) =>
            `{${[...new Map(entries)].map(([key, value]) => `${JSON.stringify(key)}:${value}`).join()}}`,
        );
  }
}

function item(field: DescField & { fieldKind: "list" | "map" }, depth: number): fc.Arbitrary<string> {
  if (field.message) return message(field.message, depth);
  if (field.enum) return fc.constantFrom(...field.enum.values.map(({ name }) => JSON.stringify(name)));
  return scalar(field.scalar);
}

const text = fc.oneof(fc.string(), fc.string({ unit: "grapheme" })).map((value) => JSON.stringify(value));

function scalar(type: ScalarType): fc.Arbitrary<string> {
  switch (type) {
    case ScalarType.STRING:
      return text;
    case ScalarType.BOOL:
      return fc.constantFrom("true", "false");
    case ScalarType.BYTES:
      return fc.uint8Array().map((bytes) => JSON.stringify(Buffer.from(bytes).toString("base64")));
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return fc.double({ noNaN: true, noDefaultInfinity: true }).map(String);
    case ScalarType.INT64:
    case ScalarType.UINT64:
      return fc.oneof(
        fc.bigInt({ min: 0n, max: 10n ** 19n }).map((value) => `"${value}"`),
        fc.nat().map(String),
      );
    default:
      return fc.nat().map(String);
  }
}

const timestamp = fc
  .tuple(
    fc.date({ min: new Date(0), max: new Date(4e12), noInvalidDate: true }),
    fc.constantFrom("", ".5", ".123456789"),
  )
  .map(([date, fraction]) => `"${date.toISOString().slice(0, 19)}${fraction}Z"`);

function message(schema: DescMessage, depth: number): fc.Arbitrary<string> {
  switch (schema.typeName) {
    case "google.protobuf.Timestamp":
      return timestamp;
    case "google.protobuf.Duration":
      return fc.constantFrom('"1s"', '"0.5s"');
    case "google.protobuf.FieldMask":
      return fc.constantFrom('""', '"a,bC"');
    case "google.protobuf.Struct":
      return fc.dictionary(fc.string(), fc.jsonValue()).map((value) => JSON.stringify(value));
    case "google.protobuf.Value":
      return fc.jsonValue().map((value) => JSON.stringify(value));
  }
  if (depth === 0 || schema.fields.length === 0) return fc.constant("{}");
  const member = fc
    .constantFrom(...schema.fields)
    .chain((field) =>
      fc
        .tuple(
          fc.oneof(
            { weight: 40, arbitrary: fc.constant(field.jsonName) },
            { weight: 1, arbitrary: fc.constant(field.name) },
            { weight: 1, arbitrary: fc.constantFrom("unknown", "__proto__", "[a.b]", "") },
          ),
          fc.oneof({ weight: 40, arbitrary: ordinary(field, depth - 1) }, { weight: 1, arbitrary: odd }),
        )
        .map(([name, value]) => [name, value] as const),
    );
  return fc.tuple(fc.array(member, { maxLength: 6 }), fc.nat(60)).map(([members, chance]) => {
    // Seldom a field twice, and often as people write it.
    const kept = chance === 0 ? members : [...new Map(members)];
    const space = chance === 1 ? " \n" : "";
    return `{${kept.map(([name, value]) => `${space}${JSON.stringify(name)}${space}:${space}${value}`).join()}}`;
  });
}

/** What a reader makes of a text: a message, or an error. */
function outcome(read: () => unknown): unknown {
  try {
    return { message: read() };
  } catch (error) {
    return { error: (error as Error).message };
  }
}

describe("the quick reader of JSON", () => {
  test("reads every request of the contract as the library does, or leaves it", () => {
    let quick = 0;
    let all = 0;
    for (const schema of new Set(requests)) {
      const read = jsonReader(schema, options);
      fc.assert(
        fc.property(message(schema, 4), (json) => {
          all++;
          if (readQuickly(schema, json, options)) quick++;
          assert.deepStrictEqual(
            outcome(() => read(json)),
            outcome(() => fromJsonString(schema, json, options)),
            json,
          );
        }),
        { numRuns: 40 },
      );
    }
    assert.ok(quick > all / 2, `only ${quick} of ${all} were read quickly`);
  });

  test("reads what is usually sent", () => {
    const schema = IngestionService.method.ingestEvent.input;
    const event = {
      eventId: "evt_1",
      eventType: "page_view",
      title: "At 12:34 a page was viewed",
      timestamp: "2024-01-30T12:34:56.789Z",
      severity: "SEVERITY_INFO",
      priority: 3,
      metrics: { response_time_ms: 150.5 },
      payload: { page: "https://example.com/pricing", list: [1, null, { a: "b" }], "a:b": true },
    };
    const json = JSON.stringify({ event }, undefined, 1);
    assert.deepStrictEqual(readQuickly(schema, json, options), fromJsonString(schema, json, options));
    const twice = json.replace('"page":', '"page":"x","page":');
    assert.equal(readQuickly(schema, twice, options), undefined);
    assert.throws(() => jsonReader(schema, options)(twice), /duplicate object key "page"/);
  });
});
