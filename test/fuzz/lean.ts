/** A long search for requests that the two paths answer differently: node test/fuzz/lean.ts [--runs n] [--seed n] */
import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import fc from "fast-check";
import { startTwins } from "../helpers/twin-listeners.ts";
import { wireClient, wirePlan } from "../helpers/wire-requests.ts";

const { values } = parseArgs({
  options: { runs: { type: "string", default: "20000" }, seed: { type: "string" } },
});

await using twins = await startTwins();
using lean = wireClient(twins.lean);
using plain = wireClient(twins.plain);
await fc.assert(
  fc.asyncProperty(wirePlan, async (plan) => {
    const [ours, theirs] = await Promise.all([lean.send(plan), plain.send(plan)]);
    assert.deepEqual(ours, theirs);
  }),
  { numRuns: Number(values.runs), ...(values.seed && { seed: Number(values.seed) }), endOnFailure: false },
);
console.log(`${values.runs} requests, no difference; ${JSON.stringify(twins.counts)}`);
