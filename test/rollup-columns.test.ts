import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeColumns, encodeColumns } from "../server/src/ingestion/rollups/columns.ts";
import { decodeEntries, EntryTable } from "../server/src/ingestion/rollups/entries.ts";

/** Numbers that need none to four bytes, wherever they begin. */
const column = (length: number) =>
  fc
    .record({ least: fc.integer(), span: fc.constantFrom(0, 200, 300, 70_000, 2 ** 24, 2 ** 32 - 1) })
    .chain(({ least, span }) =>
      fc
        .array(fc.nat({ max: 2 ** 31 - 1 }), { minLength: length, maxLength: length })
        .map((draws) => Int32Array.from(draws, (draw) => least + Math.floor((draw / (2 ** 31 - 1)) * span))),
    );

test("columns are read as they were written, whatever the numbers, and not at all where bytes are missing", () => {
  const columns = fc
    .record({ length: fc.nat({ max: 40 }), count: fc.integer({ min: 1, max: 5 }) })
    .chain(({ length, count }) => fc.array(column(length), { minLength: count, maxLength: count }));
  fc.assert(
    fc.property(columns, (drawn) => {
      const bytes = encodeColumns(drawn);
      assert.deepEqual(decodeColumns(bytes, drawn.length), drawn);
      assert.throws(() => decodeColumns(bytes.subarray(0, -1), drawn.length), RangeError);
    }),
  );
});

test("entries are kept whole, in the order of users where that is asked for", () => {
  const entry = fc.record({
    type: fc.integer({ min: 1, max: 3 }),
    user: fc.integer({ min: 0, max: 400 }),
    session: fc.integer({ min: 0, max: 70_000 }),
    count: fc.integer({ min: 1, max: 300 }),
    last: fc.nat({ max: 86_399_999 }),
  });
  fc.assert(
    fc.property(fc.array(entry, { minLength: 1, maxLength: 200 }), fc.boolean(), (drawn, byUser) => {
      const table = new EntryTable();
      const counted = new Map<string, { count: number; last: number }>();
      for (const { type, user, session, count, last } of drawn) {
        table.add(type, user, session, count, last);
        const known = counted.get(`${type} ${user} ${session}`) ?? { count: 0, last: 0 };
        counted.set(`${type} ${user} ${session}`, {
          count: known.count + count,
          last: Math.max(known.last, last),
        });
      }
      const { size, types, users, sessions, counts, lasts } = decodeEntries(table.encode(byUser));
      const read = Array.from({ length: size }, (_, at): [string, { count: number; last: number }] => [
        `${types[at]} ${users[at]} ${sessions[at]}`,
        { count: counts[at] as number, last: lasts[at] as number },
      ]);
      assert.equal(size, counted.size);
      assert.deepEqual(new Map(read), counted);
      if (byUser) assert.deepEqual(users, users.toSorted());
    }),
  );
});
