import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";
import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import type {
  AlertRuleSpec,
  BacktestAlertRuleResponseSchema,
} from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import { invalidField, notFound } from "../../rpc/errors.ts";
import { readSamples, selectSeries } from "../read.ts";
import { existingStores } from "../store.ts";
import { type TransitionFacts, transitionMessage } from "./alert-row.ts";
import { type Rule, readRule } from "./rule.ts";
import { createTracker, takeSample, takeTime } from "./tracker.ts";

const maxRangeMs = 31 * 86_400_000;
const maxTransitions = 10_000;
/** What is read at a time: so many series over so long a time. */
const reads = { series: 20, sliceMs: 6 * 3_600_000 };

/** Plays the samples of a range to a rule, series by series, as they would have come live. */
export async function backtest(
  db: Kysely<Database>,
  tenantId: string,
  spec: AlertRuleSpec,
  range: { readonly start?: Timestamp | undefined; readonly end?: Timestamp | undefined },
  limits: { readonly maxBacktestSeries: number },
  signal: AbortSignal,
): Promise<MessageInitShape<typeof BacktestAlertRuleResponseSchema>> {
  const { startMs, endMs } = readRange(range);
  const rule = readRule(spec);
  const { storeId, metricName: name, labels } = spec;
  const series = await withTenant(db, tenantId, async (trx) => {
    if (storeId && !(await existingStores(trx, tenantId, [storeId])).has(storeId.toLowerCase()))
      throw notFound("store", storeId);
    return await selectSeries(trx, tenantId, { storeId, name, labels });
  });
  if (series.length > limits.maxBacktestSeries) {
    const description = `the rule is about ${series.length} series; a back-test reads at most ${limits.maxBacktestSeries}: name a store or labels`;
    throw invalidField("spec.labels", description, "backtest.series");
  }
  // Nothing after now has come yet.
  const untilMs = Math.min(endMs, Date.now());
  const found: TransitionFacts[] = [];
  let fired = 0;
  let count = 0;
  for (let at = 0; at < series.length; at += reads.series) {
    const players = new Map(
      series.slice(at, at + reads.series).map((row) => [row.id, player(rule, row, startMs)] as const),
    );
    for (let fromMs = startMs - (rule.windowMs ?? rule.absenceMs ?? 0); fromMs < untilMs; ) {
      signal.throwIfAborted();
      const toMs = Math.min(fromMs + reads.sliceMs, untilMs);
      const seriesIds = [...players.keys()];
      const runs = await withTenant(db, tenantId, (trx) =>
        readSamples(trx, tenantId, { seriesIds }, fromMs, toMs),
      );
      for (const run of runs) players.get(run.series.id)?.play(run.timestampsMs, run.values);
      fromMs = toMs;
    }
    for (const { finish } of players.values()) {
      for (const facts of finish(untilMs - 1)) {
        count++;
        if (facts.from === "pending" && facts.to === "firing") fired++;
        found.push(facts);
      }
    }
    // Of many only the oldest are shown.
    if (found.length > 2 * maxTransitions) cut(found);
  }
  cut(found);
  return { transitions: found.map(transitionMessage), fired, truncated: count > found.length };
}

function cut(found: TransitionFacts[]): void {
  found.sort((a, b) => a.atMs - b.atMs);
  found.length = Math.min(found.length, maxTransitions);
}

/** One series: what came before the range only fills windows, and tells when it was heard from last. */
function player(
  rule: Rule,
  { store_id: storeId, labels, kind }: { store_id: string; labels: Record<string, string>; kind: string },
  startMs: number,
) {
  const tracker = createTracker(rule, kind === "counter", startMs - 1);
  let isHeard = false;
  const found: TransitionFacts[] = [];
  const note = (transitions: ReturnType<typeof takeTime>) => {
    for (const { atMs, from, to, value } of transitions)
      found.push({ atMs, storeId, labels, from, to, value });
  };
  return {
    play(times: Float64Array, values: Float64Array) {
      for (let index = 0; index < times.length; index++) {
        const atMs = times[index] as number;
        if (atMs < startMs) {
          tracker.window?.add(atMs, values[index] as number);
          if (rule.absenceMs !== undefined) tracker.lastMs = atMs;
        } else {
          // Before its first sample nothing is known to be missing.
          if (!isHeard && rule.absenceMs !== undefined && tracker.lastMs === startMs - 1)
            tracker.lastMs = atMs;
          else note(takeSample(rule, tracker, atMs, values[index] as number));
        }
        isHeard = true;
      }
    },
    finish(untilMs: number): readonly TransitionFacts[] {
      if (isHeard || rule.absenceMs === undefined) note(takeTime(rule, tracker, untilMs));
      return found;
    },
  };
}

function readRange({ start, end }: { start?: Timestamp | undefined; end?: Timestamp | undefined }) {
  const startMs = start ? timestampMs(start) : 0;
  const endMs = end ? timestampMs(end) : 0;
  if (endMs <= startMs) throw invalidField("end", "must lie after start", "timestamp.range");
  if (endMs - startMs > maxRangeMs)
    throw invalidField("end", "must be at most 31 days after start", "timestamp.range");
  return { startMs, endMs };
}
