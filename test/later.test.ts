import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Later } from "../server/src/rpc/later.ts";

type Link = {
  readonly how: "then" | "catch" | "both" | "finally";
  readonly gives: "value" | "error" | "promise";
};

const links: fc.Arbitrary<Link[]> = fc.array(
  fc.record({
    how: fc.constantFrom("then", "catch", "both", "finally"),
    gives: fc.constantFrom("value", "error", "promise"),
  }),
  { maxLength: 6 },
);

/** Hangs the links on, each noting what it is called with. */
function chain(start: Promise<unknown>, linked: readonly Link[], notes: unknown[]): Promise<unknown> {
  return linked.reduce((before, { how, gives }, index) => {
    const step = (heard: unknown) => {
      notes.push([index, heard]);
      if (gives === "error") throw `${index} failed`;
      return gives === "promise" ? Promise.resolve(`${index} later`) : `${index} done`;
    };
    if (how === "then") return before.then(step);
    if (how === "catch") return before.catch(step);
    if (how === "both") return before.then(step, step);
    return before.finally(() => void notes.push([index, "over"]));
  }, start);
}

const outcomeOf = (promise: Promise<unknown>) =>
  promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );

describe("an answer that comes later", () => {
  test("a chain does what a chain of promises does", async () => {
    await fc.assert(
      fc.asyncProperty(links, fc.boolean(), fc.boolean(), async (linked, fails, early) => {
        const [ours, theirs]: unknown[][] = [[], []];
        const promise = fails ? Promise.reject("begun") : Promise.resolve("begun");
        const later = new Later<string>();
        const settle = () => (fails ? later.reject("begun") : later.resolve("begun"));
        if (early) settle();
        const end = outcomeOf(chain(later, linked, ours as unknown[]));
        if (!early) settle();
        assert.deepEqual(await end, await outcomeOf(chain(promise, linked, theirs as unknown[])));
        assert.deepEqual(ours, theirs);
      }),
    );
  });

  test("who waits is called in the turn in which it comes, in order, once", () => {
    const later = new Later<number>();
    const heard: number[] = [];
    for (const factor of [1, 10, 100]) later.then((value) => heard.push(factor * value));
    later.resolve(7);
    later.resolve(8);
    later.reject("too late");
    assert.deepEqual(heard, [7, 70, 700]);
  });

  test("can be awaited, and takes what becomes of a promise", async () => {
    const later = new Later<string>();
    later.resolve(Promise.resolve("there"));
    assert.equal(await later, "there");
    const failing = new Later<string>();
    failing.resolve(Promise.reject(new Error("no")));
    await assert.rejects(failing, /no/);
  });
});
