/** What the evaluation of one tenant remembers: loaded once, then only what is new is looked for. */
import type { TenantTransaction } from "../../db/tenant.ts";
import { readRuns } from "../storage/read-runs.ts";
import type { AlertRow } from "./alert-row.ts";
import type { EvaluationRow } from "./changes.ts";
import { loadOpenAlerts, loadRules, loadSeen, loadSeries, loadStores } from "./load.ts";
import { currentSilences, type SilenceRow } from "./silences.ts";
import {
  addPair,
  expectsEveryStore,
  isAbout,
  type LoadedRule,
  type Pair,
  pairKey,
  type Subject,
} from "./subjects.ts";

/** How far back samples are read when the evaluation begins anew: what was committed late is not missed. */
const overlapMs = 120_000;
/** What is older is not evaluated any more after a standstill. */
const maxCatchUpMs = 86_400_000;
/** How far back the first samples of a new series are evaluated. */
const newSeriesMs = 600_000;
/** A series that was silent for a day, or for as long as a rule of absence allows, when the evaluation begins, is not waited for. */
const goneMs = 86_400_000;
/** What is new is looked for with some overlap: a transaction commits later than it begins. */
const discoveryOverlapMs = 60_000;

/** What a load has read. */
interface Loaded {
  /** Open alerts whose pair was not met yet. */
  readonly alerts: Map<string, AlertRow>;
  /** Up to when the alerts that are over have seen samples. */
  readonly seen: ReadonlyMap<string, number>;
  readonly before: ReadonlyMap<number, Subject>;
  readonly fromMs: number;
  readonly evaluatedUntilMs: number;
}

export class EvaluationMemory {
  readonly #tenantId: string;
  #discoveredUntilMs = 0;
  revision: bigint | undefined;
  rules: readonly LoadedRule[] = [];
  silences: readonly SilenceRow[] = [];
  /** Series by their `ref`. */
  series = new Map<number, Subject>();
  /** Stores that a rule of absence waits for, by rule and store. */
  stores = new Map<string, Subject>();
  /** Pairs that time alone may change. */
  timed = new Set<Pair>();
  /** Series that are new here, or to one of their rules, and whose samples of the last time are still to be read. */
  fresh = new Set<Subject>();
  /** From when on they are to be read. */
  freshFromMs = 0;

  constructor(tenantId: string) {
    this.#tenantId = tenantId;
  }

  /** Brings memory up to what is stored. */
  async refresh(trx: TenantTransaction, nowMs: number): Promise<void> {
    const row = await trx
      .selectFrom("alert_evaluations")
      .selectAll()
      .where("tenant_id", "=", this.#tenantId)
      .executeTakeFirst();
    if (!row || row.revision === this.revision) await this.#discover(trx, nowMs);
    else await this.#load(trx, row, nowMs);
  }

  /** Whether time may still change the pair. */
  watchTime(pair: Pair): void {
    if (pair.rule.absenceMs !== undefined || pair.tracker.state) this.timed.add(pair);
    else this.timed.delete(pair);
  }

  /** The pair that waits for the first sample of the store. */
  waitingStore(rule: LoadedRule, storeId: string): Pair | undefined {
    return this.stores.get(pairKey(rule.id, storeId))?.pairs[0];
  }

  /** Waits no longer for the store. */
  forgetStore(pair: Pair): void {
    this.timed.delete(pair);
    this.stores.delete(pairKey(pair.rule.id, pair.subject.storeId));
  }

  /** Loads all. What is known of series and of rules that are still the same is kept. */
  async #load(trx: TenantTransaction, row: EvaluationRow, nowMs: number): Promise<void> {
    const evaluatedUntilMs = row.evaluated_until.getTime();
    const fromMs = Math.max(evaluatedUntilMs - overlapMs, nowMs - maxCatchUpMs);
    const open = await loadOpenAlerts(trx, this.#tenantId);
    const seen = await loadSeen(trx, this.#tenantId, fromMs - overlapMs);
    const loaded: Loaded = {
      alerts: new Map(open.map((alert) => [pairKey(alert.rule_id, alert.subject_id), alert])),
      seen: new Map(seen.map((one) => [pairKey(one.rule_id, one.subject_id), one.seen_at.getTime()])),
      before: this.series,
      fromMs,
      evaluatedUntilMs,
    };
    this.rules = await loadRules(trx, this.#tenantId);
    this.silences = await currentSilences(trx, this.#tenantId);
    this.series = new Map();
    this.stores = new Map();
    this.timed = new Set();
    this.fresh = new Set();
    this.#discoveredUntilMs = 0;
    await this.#discover(trx, nowMs, loaded);
    this.revision = row.revision;
  }

  /** Finds series and stores that are new. */
  async #discover(trx: TenantTransaction, nowMs: number, loaded?: Loaded): Promise<void> {
    const sinceMs = Math.max(0, this.#discoveredUntilMs - discoveryOverlapMs);
    const byMetric = Map.groupBy(this.rules, ({ spec }) => spec.metricName);
    for (const one of await loadSeries(trx, this.#tenantId, [...byMetric.keys()], sinceMs)) {
      if (this.series.has(one.ref)) continue;
      const rules = (byMetric.get(one.metricName) ?? []).filter((rule) => isAbout(rule, one));
      if (rules.length === 0) continue;
      const subject: Subject = { ...one, pairs: [] };
      for (const rule of rules) this.#join(rule, subject, loaded?.fromMs ?? nowMs - newSeriesMs, loaded);
      this.series.set(one.ref, subject);
    }
    this.freshFromMs = loaded?.fromMs ?? nowMs - newSeriesMs;
    await this.#findLastSamples(trx, nowMs);
    await this.#discoverStores(trx, sinceMs, loaded);
    this.#discoveredUntilMs = nowMs;
  }

  #join(rule: LoadedRule, subject: Subject, fromMs: number, loaded: Loaded | undefined): void {
    const key = pairKey(rule.id, subject.id);
    const alert = loaded?.alerts.get(key);
    loaded?.alerts.delete(key);
    const old = loaded?.before.get(subject.ref)?.pairs.find((pair) => pair.rule.id === rule.id);
    if (old && old.rule.updatedAtMs === rule.updatedAtMs) {
      const { lastMs, lateMs, window } = old.tracker;
      this.watchTime(addPair(rule, subject, { lastMs, lateMs, window, alert, dormant: old.dormant }));
      return;
    }
    this.fresh.add(subject);
    const seenMs = old?.tracker.lastMs ?? alert?.seen_at?.getTime() ?? loaded?.seen.get(key);
    // A rule that has changed looks once more at the newest sample.
    const again = loaded && rule.updatedAtMs > loaded.evaluatedUntilMs ? 1 : 0;
    const lastMs = seenMs === undefined ? fromMs : seenMs - again;
    this.watchTime(addPair(rule, subject, { lastMs, alert }));
  }

  /** For rules of absence: when series that are new to the evaluation were heard from last. */
  async #findLastSamples(trx: TenantTransaction, nowMs: number): Promise<void> {
    const pairs = [...this.fresh].flatMap((subject) =>
      subject.pairs.filter(({ rule, alert, dormant }) => rule.absenceMs !== undefined && !alert && !dormant),
    );
    if (pairs.length === 0) return;
    const longestMs = Math.max(goneMs, ...pairs.map(({ rule }) => rule.absenceMs ?? 0));
    const found = await latestOf(trx, this.#tenantId, new Set(pairs.map(({ subject }) => subject.ref)), {
      untilMs: nowMs,
      longestMs,
    });
    for (const pair of pairs) {
      const lastMs = found.get(pair.subject.ref);
      const { rule, tracker } = pair;
      if (lastMs === undefined) pair.dormant = true;
      // So that the last sample is taken in once more, and is not missed at its own time.
      else tracker.lastMs = Math.min(lastMs, Math.max(tracker.lastMs, lastMs - (rule.absenceMs ?? 0) + 1));
    }
  }

  /** Stores that a rule of absence waits for and that no series of it was heard from. */
  async #discoverStores(trx: TenantTransaction, sinceMs: number, loaded?: Loaded): Promise<void> {
    const rules = this.rules.filter(expectsEveryStore);
    if (rules.length === 0) return;
    const stores = await loadStores(trx, this.#tenantId, sinceMs);
    if (stores.size === 0) return;
    const heard = new Set<string>();
    for (const { storeId, pairs } of this.series.values())
      for (const { rule, dormant } of pairs) if (!dormant) heard.add(pairKey(rule.id, storeId));
    for (const rule of rules) {
      for (const [storeId, madeAtMs] of stores) {
        if (rule.spec.storeId && rule.spec.storeId !== storeId) continue;
        const key = pairKey(rule.id, storeId);
        const alert = loaded?.alerts.get(key);
        if (this.stores.has(key) || (heard.has(key) && !alert)) continue;
        const subject = storeSubject(rule, storeId);
        this.stores.set(key, subject);
        const lastMs = alert
          ? alert.started_at.getTime() - (rule.absenceMs ?? 0)
          : Math.max(madeAtMs, rule.updatedAtMs);
        this.watchTime(addPair(rule, subject, { lastMs, alert }));
      }
    }
  }
}

/** Spans that are read one after the other, each for the series that the shorter ones have nothing of. */
const spansMs = [120_000, 900_000, 7_200_000];

/** The time of the latest sample of series, by `ref`; those without one in the longest span are left out. */
async function latestOf(
  trx: TenantTransaction,
  tenantId: string,
  refs: ReadonlySet<number>,
  { untilMs, longestMs }: { readonly untilMs: number; readonly longestMs: number },
): Promise<Map<number, number>> {
  const latest = new Map<number, number>();
  for (const spanMs of [...spansMs, longestMs]) {
    const missing = [...refs].filter((ref) => !latest.has(ref));
    for (const { ref, times } of await readRuns(trx, tenantId, missing, untilMs - spanMs, untilMs + 1))
      latest.set(ref, times.at(-1) as number);
  }
  return latest;
}

function storeSubject({ spec }: LoadedRule, storeId: string): Subject {
  return {
    id: storeId,
    ref: 0,
    storeId,
    metricName: spec.metricName,
    labels: {},
    isCounter: false,
    pairs: [],
  };
}
