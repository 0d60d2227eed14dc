/**
 * Ten times the callers that keep the server busy: node test/faults/overload.ts [--seconds n] [--goodput n]
 *
 * What is over its capacity is refused with the time to come back, the rest goes on at the rate of before, and memory stays
 * bounded. Callers come back when they are told to. The overload comes in rounds with the usual load before and after each, for
 * the rate of a disk changes by itself; the median of their ratios counts.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { startLoadProcess } from "../bench/load-process.ts";
import { spreadOf } from "../bench/report.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { connectToDatabase } from "./database.ts";
import { residentMb } from "./processes.ts";

const size = 500;
const peakCallers = 8;
const factor = 10;
/** The longest that one round of overload lasts, seconds. */
const roundSeconds = 15;
const connections = 4;
/** Rows that may wait: more than the usual callers need, far fewer than ten times as many send. */
const maxQueuedRows = 10_000;
/** What the server may hold beyond what it holds at its peak. */
const maxGrowthMb = 256;

const { values } = parseArgs({
  options: { seconds: { type: "string", default: "60" }, goodput: { type: "string", default: "0.9" } },
});
const seconds = Number(values.seconds);
/** The least part of the usual rate that may be left. */
const leastGoodput = Number(values.goodput);

const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-overload-"));
try {
  await using server = await startServerProcess({
    PULSEWIRE_DATA_DIR: dataDir,
    PULSEWIRE_ROLE: "api",
    PULSEWIRE_MAX_QUEUED_ROWS: String(maxQueuedRows),
  });
  await using load = startLoadProcess();
  const command = (callers: number, forSeconds: number) =>
    ({
      kind: "patient",
      url: server.url,
      apiKey: readDemoKey(dataDir),
      connections,
      size,
      callers,
      seconds: forSeconds,
    }) as const;
  let acknowledged = 0;
  const run = async (callers: number, forSeconds: number) => {
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, residentMb(server.pid));
    }, 200);
    const round = await load.run(command(callers, forSeconds)).finally(() => clearInterval(watch));
    acknowledged += round.events;
    return { rate: round.events / round.seconds, refused: round.refused, residentMb: most };
  };
  await run(peakCallers, 3);
  const rounds = Math.ceil(seconds / roundSeconds);
  const usualSeconds = Math.max(3, seconds / rounds / 3);
  const usual = [await run(peakCallers, usualSeconds)];
  const over: Awaited<ReturnType<typeof run>>[] = [];
  for (let round = 0; round < rounds; round++) {
    over.push(await run(factor * peakCallers, seconds / rounds));
    usual.push(await run(peakCallers, usualSeconds));
  }
  const ratios = over.map(({ rate }, round) => {
    const around = (usual[round] as (typeof over)[0]).rate + (usual[round + 1] as (typeof over)[0]).rate;
    return (2 * rate) / around;
  });
  const goodput = spreadOf(ratios).median;
  console.log({ usual, over, ratios, goodput, acknowledged });

  assert.ok(
    over.every(({ refused }) => refused > 0),
    "nothing was refused",
  );
  assert.ok(goodput >= leastGoodput, `goodput fell to ${goodput} of the usual rate`);
  const grownMb = Math.max(...over.map(({ residentMb }) => residentMb)) - (usual[0]?.residentMb ?? 0);
  assert.ok(grownMb <= maxGrowthMb, `memory grew by ${grownMb} MiB`);
  await using database = await connectToDatabase(dataDir);
  const { rows } = await database.query("select count(*)::int as stored from events");
  assert.equal(rows[0].stored, acknowledged, "every acknowledged event is stored once, and no other");
  await server.stop();
} finally {
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
