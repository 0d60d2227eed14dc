import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, test } from "node:test";
import * as binary from "../server/src/db/binary-array.ts";
import { createTestDatabase } from "./helpers/database.ts";

const database = await createTestDatabase();
after(() => database.drop());

const texts = ["", "a", 'quo"te', "back\\slash", "{,}", "NULL", "é😀", "x".repeat(10_000)];
const cases: Record<string, [string, Buffer, readonly unknown[]]> = {
  texts: ["text[]", binary.textArray([...texts, null]), [...texts, null]],
  json: [
    "json[]",
    binary.jsonArray(texts.map((text) => JSON.stringify({ text }))),
    texts.map((text) => ({ text })),
  ],
  none: ["text[]", binary.textArray([]), []],
};
const uuids = Array.from({ length: 50 }, () => randomUUID());
cases.uuids = [
  "uuid[]",
  binary.uuidArray([...uuids, "ABCDEF01-2345-7890-ABCD-EF0123456789"]),
  [...uuids, "abcdef01-2345-7890-abcd-ef0123456789"],
];
const bytes = [Buffer.alloc(0), randomBytes(16), randomBytes(300)];
cases.bytes = ["bytea[]", binary.byteaArray(bytes.map((each) => each.toString("latin1"))), bytes];
const numbers = [-32_768, -1, 0, 1, 32_767];
cases.numbers = ["smallint[]", binary.int2Array(numbers), numbers];
cases.integers = [
  "integer[]",
  binary.int4Array([0, -1, 2 ** 31 - 1, -(2 ** 31)]),
  [0, -1, 2 ** 31 - 1, -(2 ** 31)],
];
const large = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n)];
cases.large = ["bigint[]", binary.int8Array([...large, null]), [...large, null]];
const doubles = [0, -0.1, 1e300, 5e-324, 2 ** 53];
cases.doubles = ["float8[]", binary.float8Array(doubles), doubles];
const times = [0, 1, -1, 946_684_800_000, 1_795_000_000_123, -62_135_596_800_000, 253_402_300_799_999].map(
  (ms) => new Date(ms),
);
cases.times = ["timestamptz[]", binary.timestampArray(times), times];

for (const [name, [type, parameter, expected]] of Object.entries(cases)) {
  test(`PostgreSQL reads ${name} as they were written`, async () => {
    const { rows } = await database.app.pool.query(
      `select value from unnest($1::${type}) with ordinality as t (value, place) order by place`,
      [parameter],
    );
    assert.deepEqual(
      rows.map(({ value }) => value),
      expected,
    );
  });
}
