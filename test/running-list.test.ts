import assert from "node:assert/strict";
import { suite, test } from "node:test";
import v8 from "node:v8";
import vm from "node:vm";
import fc from "fast-check";
import type { Http2Stream } from "../server/src/listener/h2/stream.ts";
import { StreamTable } from "../server/src/listener/h2/stream-table.ts";
import { type Listed, RunningList } from "../server/src/listener/running.ts";

class Item implements Listed<Item> {
  isListed = false;
  earlier: Item | undefined = undefined;
  later: Item | undefined = undefined;
  nextInSlot: Http2Stream | undefined = undefined;
  readonly load = new Array(50).fill(0);
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }
}

/** The table looks at the numbers of streams only. */
const asStream = (item: Item) => item as unknown as Http2Stream;

const steps = fc.array(fc.record({ id: fc.nat(40).map((n) => 2 * n + 1), adds: fc.boolean() }), {
  maxLength: 200,
});

v8.setFlagsFromString("--expose-gc");
const gc = vm.runInNewContext("gc") as () => void;

/** By how much old space grows while many come and go, after something of the container has become old. */
function growthMb(add: (item: Item) => void, remove: (item: Item) => void): number {
  const held: Item[] = [];
  const churn = (count: number) => {
    for (let n = 0; n < count; n++) {
      const item = new Item(2 * n + 1);
      held.push(item);
      add(item);
      if (held.length > 64) remove(held.shift() as Item);
    }
    for (const item of held.splice(0)) remove(item);
  };
  const oldMb = () =>
    (v8.getHeapSpaceStatistics().find(({ space_name: name }) => name === "old_space")?.space_used_size ?? 0) /
    2 ** 20;
  churn(1_000);
  gc();
  const before = oldMb();
  churn(100_000);
  return oldMb() - before;
}

suite("what comes and goes by the thousand", () => {
  test("the list of what runs holds what a Set would, in the same order", () => {
    fc.assert(
      fc.property(steps, (all) => {
        const items = new Map<number, Item>();
        const list = new RunningList<Item>();
        const model = new Set<Item>();
        for (const { id, adds } of all) {
          const item = items.get(id) ?? new Item(id);
          items.set(id, item);
          if (adds) {
            list.add(item);
            model.add(item);
          } else {
            list.delete(item);
            model.delete(item);
          }
        }
        assert.equal(list.size, model.size);
        assert.deepEqual(
          [...list].map(({ id }) => id),
          [...model].map(({ id }) => id),
        );
        for (const item of list) list.delete(item);
        assert.equal(list.size, 0);
      }),
    );
  });

  test("the table of streams finds what a Map would", () => {
    fc.assert(
      fc.property(steps, (all) => {
        const table = new StreamTable();
        const model = new Map<number, Item>();
        for (const { id, adds } of all) {
          const known = model.get(id);
          if (!adds) {
            if (known) table.delete(asStream(known));
            model.delete(id);
          } else if (!known) {
            const item = new Item(id);
            model.set(id, item);
            table.add(asStream(item));
          }
        }
        assert.equal(table.size, model.size);
        for (let id = 1; id <= 81; id += 2) assert.equal(table.get(id), model.get(id));
        assert.deepEqual(new Set<unknown>(table.all()), new Set<unknown>(model.values()));
      }),
    );
  });

  test("what has left is not kept by what is old", () => {
    const list = new RunningList<Item>();
    const table = new StreamTable();
    const most = 5;
    assert.ok(
      growthMb(
        (item) => list.add(item),
        (item) => list.delete(item),
      ) < most,
    );
    assert.ok(
      growthMb(
        (item) => table.add(asStream(item)),
        (item) => table.delete(asStream(item)),
      ) < most,
    );
  });
});
