import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { startTwins, type Twins } from "./helpers/twin-listeners.ts";
import { type WireClient, wireClient, wirePlan } from "./helpers/wire-requests.ts";

const runs = 400;

describe("the lean path and connect-node", () => {
  let twins: Twins;
  let lean: WireClient;
  let plain: WireClient;
  before(async () => {
    twins = await startTwins();
    lean = wireClient(twins.lean);
    plain = wireClient(twins.plain);
  });
  after(async () => {
    lean[Symbol.dispose]();
    plain[Symbol.dispose]();
    await twins[Symbol.asyncDispose]();
  });

  test("answer every request alike, good or bad, whatever the pieces it comes in", async () => {
    await fc.assert(
      fc.asyncProperty(wirePlan, async (plan) => {
        const [ours, theirs] = await Promise.all([lean.send(plan), plain.send(plan)]);
        assert.deepEqual(ours, theirs);
      }),
      { numRuns: runs },
    );
    const { unary, streams, handedOver, declined } = twins.counts;
    assert.ok(unary > runs / 20, `only ${unary} unary calls took the lean path`);
    assert.ok(streams > runs / 20, `only ${streams} streams took the lean path`);
    assert.ok(handedOver > 0 && declined > 0, "every way is gone");
  });
});
