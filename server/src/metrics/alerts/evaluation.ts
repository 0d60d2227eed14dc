/**
 * The evaluation of one tenant's rules by the process that holds its lease.
 *
 *   refresh memory → read new samples, take them in → let time pass → write what has changed → …
 *
 * What is in memory is what is stored: a change is written in one transaction with its notices, and where that fails, or a caller
 * has changed something meanwhile, memory is thrown away and loaded anew. A sample that is read twice changes nothing.
 */
import type { Kysely } from "kysely";
import { newResourceId } from "../../auth/ids.ts";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import { confirmLease, type Lease } from "../../jobs/lease.ts";
import { lowerBound, type SeriesRun } from "../storage/columns.ts";
import { batchGraceMs, SampleFeed } from "../storage/feed.ts";
import { readRuns } from "../storage/read-runs.ts";
import type { AlertRow } from "./alert-row.ts";
import { type Change, changeBy, lockEvaluation, severityOf, writeChanges } from "./changes.ts";
import type { Transition } from "./machine.ts";
import { EvaluationMemory } from "./memory.ts";
import { owedNotices, tellOwed } from "./owed.ts";
import type { Pair, Subject } from "./subjects.ts";
import { nextDueMs, noteLateness, takeSample, takeTime } from "./tracker.ts";

/** How far back stored samples are read, and how often: should the feed have missed any. */
const checkMs = { back: 120_000, every: 60_000 };
/** One read of stored samples: so many series over so long a time. */
const reads = { series: 2_000, sliceMs: 600_000, aheadMs: 10_000 };
/** How often it is written that nothing has changed, and the longest pause between two evaluations. */
const restMs = { write: 10_000, evaluate: 60_000 };

/** Memory is out of date, or the lease is lost. */
export class StaleEvaluation extends Error {}

export interface Evaluated {
  /** When it is to be evaluated again at the latest. */
  readonly dueAtMs: number;
  /** Whether alerts have changed. */
  readonly changed: boolean;
  /** Samples that were read. */
  readonly samples: number;
  /** There is nothing to evaluate. */
  readonly empty: boolean;
}

interface Found {
  readonly pair: Pair;
  readonly transition: Transition;
}

export class TenantEvaluation {
  readonly #tenantId: string;
  readonly #memory: EvaluationMemory;
  #feed: SampleFeed;
  #readAtMs = 0;
  #checkedAtMs = 0;
  #writtenAtMs = 0;
  #writtenDueMs = 0;
  /** Of series with samples that lie in the future, by `ref`, when the first of them will have come. */
  readonly #ahead = new Map<number, number>();

  constructor(tenantId: string) {
    this.#tenantId = tenantId;
    this.#memory = new EvaluationMemory(tenantId);
    this.#feed = new SampleFeed(tenantId);
  }

  /** Evaluates everything up to now. After an error, {@link StaleEvaluation} among them, begin with a new one. */
  async evaluate(db: Kysely<Database>, lease: Lease, now = new Date()): Promise<Evaluated> {
    const nowMs = now.getTime();
    const found: Found[] = [];
    const samples = await withTenant(db, this.#tenantId, async (trx) => {
      // It may run again: what was found before the transaction was rolled back was not taken back in memory.
      if (found.length > 0) throw new StaleEvaluation("samples could not be read in one go");
      await this.#memory.refresh(trx, nowMs);
      return await this.#readNew(trx, nowMs, found);
    });
    this.#passTime(nowMs, found);
    const dueAtMs = Math.min(this.#nextDueMs(nowMs), nowMs + restMs.evaluate);
    await this.#write(db, lease, nowMs, dueAtMs, found);
    return { dueAtMs, changed: found.length > 0, samples, empty: this.#memory.rules.length === 0 };
  }

  /** Takes in all samples up to now that were not taken in yet; how many were read. */
  async #readNew(trx: TenantTransaction, nowMs: number, found: Found[]): Promise<number> {
    const { series, fresh } = this.#memory;
    const isLate = nowMs - this.#readAtMs > batchGraceMs / 2;
    if (isLate) {
      this.#feed = new SampleFeed(this.#tenantId);
      await this.#feed.begin(trx);
    }
    let samples = 0;
    // What is stored comes first: the feed may hold what is newer.
    const fed: SeriesRun[][] = [];
    for (let more = true; more; ) {
      const read = await this.#feed.read(trx);
      fed.push(read.runs);
      more = read.more;
    }
    const dueAhead = [...this.#ahead].flatMap(([ref, ms]) => (ms <= nowMs ? (series.get(ref) ?? []) : []));
    const stored = new Set([...fresh, ...dueAhead]);
    const backMs = Math.max(0, ...[...fresh].flatMap(({ pairs }) => pairs.map(unfilledMs)));
    const fromMs = Math.min(nowMs - checkMs.back, this.#memory.freshFromMs) - backMs;
    samples += await this.#readStored(trx, [...stored], fromMs, nowMs, found);
    if (isLate || nowMs - this.#checkedAtMs > checkMs.every) {
      this.#checkedAtMs = nowMs;
      const others = [...series.values()].filter((subject) => !stored.has(subject));
      const sinceMs = isLate && this.#readAtMs > 0 ? this.#readAtMs : nowMs;
      samples += await this.#readStored(trx, others, sinceMs - checkMs.back, nowMs, found);
    }
    for (const { ref } of dueAhead) this.#ahead.delete(ref);
    fresh.clear();
    for (const runs of fed) {
      for (const run of runs) {
        samples += run.values.length;
        this.#noteLateness(run, nowMs);
        this.#takeRun(run, nowMs, found);
      }
    }
    this.#readAtMs = nowMs;
    return samples;
  }

  async #readStored(
    trx: TenantTransaction,
    subjects: readonly Subject[],
    startMs: number,
    nowMs: number,
    found: Found[],
  ): Promise<number> {
    let samples = 0;
    // What came since `nowMs` is seen, too, so that it is not forgotten.
    const untilMs = nowMs + reads.aheadMs;
    for (let at = 0; at < subjects.length; at += reads.series) {
      const refs = subjects.slice(at, at + reads.series).map(({ ref }) => ref);
      for (let fromMs = startMs; fromMs < untilMs; fromMs += reads.sliceMs) {
        const toMs = Math.min(fromMs + reads.sliceMs, untilMs);
        for (const run of await readRuns(trx, this.#tenantId, refs, fromMs, toMs)) {
          samples += run.values.length;
          this.#takeRun(run, nowMs, found);
        }
      }
    }
    return samples;
  }

  /** What the feed gives has just come. */
  #noteLateness({ ref, times }: SeriesRun, nowMs: number): void {
    for (const { rule, tracker } of this.#memory.series.get(ref)?.pairs ?? []) {
      if (rule.absenceMs === undefined) continue;
      const end = lowerBound(times, nowMs + 1);
      for (let index = lowerBound(times, tracker.lastMs + 1); index < end; index++)
        noteLateness(rule, tracker, nowMs - (times[index] as number));
    }
  }

  #takeRun({ ref, times, values }: SeriesRun, nowMs: number, found: Found[]): void {
    const subject = this.#memory.series.get(ref);
    if (!subject) return;
    const end = (times.at(-1) as number) <= nowMs ? times.length : lowerBound(times, nowMs + 1);
    // What lies in the future is read again when its time has come.
    if (end < times.length)
      this.#ahead.set(ref, Math.min(this.#ahead.get(ref) ?? Number.POSITIVE_INFINITY, times[end] as number));
    for (const pair of subject.pairs) this.#take(pair, times, values, end, nowMs, found);
  }

  #take(
    pair: Pair,
    times: Float64Array,
    values: Float64Array,
    end: number,
    nowMs: number,
    found: Found[],
  ): void {
    const { rule, tracker } = pair;
    for (let index = 0; index < end; index++) {
      const atMs = times[index] as number;
      const value = values[index] as number;
      if (atMs <= tracker.lastMs) {
        // What was judged before the evaluation began anew is still a part of the window.
        tracker.window?.add(atMs, value);
        continue;
      }
      if (pair.dormant) {
        pair.dormant = false;
        tracker.lastMs = atMs;
      } else {
        note(pair, takeSample(rule, tracker, atMs, value, nowMs), found);
      }
      if (rule.absenceMs !== undefined) this.#hearStore(pair, atMs, nowMs, found);
    }
    this.#memory.watchTime(pair);
  }

  /** A store that a rule of absence waited for has sent its first sample. */
  #hearStore({ rule, subject }: Pair, atMs: number, nowMs: number, found: Found[]): void {
    const waiting = this.#memory.waitingStore(rule, subject.storeId);
    if (!waiting) return;
    note(waiting, takeSample(rule, waiting.tracker, atMs, 0, nowMs), found);
    if (!waiting.tracker.state) this.#memory.forgetStore(waiting);
  }

  #passTime(nowMs: number, found: Found[]): void {
    for (const pair of this.#memory.timed) {
      if (pair.dormant || nextDueMs(pair.rule, pair.tracker) > nowMs) continue;
      note(pair, takeTime(pair.rule, pair.tracker, nowMs), found);
      this.#memory.watchTime(pair);
    }
  }

  #nextDueMs(nowMs: number): number {
    const { silences, timed } = this.#memory;
    const silenceEndsMs = Math.min(
      ...silences.map(({ ends_at }) => ends_at.getTime()).filter((at) => at > nowMs),
    );
    let due = Math.min(...this.#ahead.values());
    for (const { rule, tracker, dormant } of timed) {
      if (dormant) continue;
      due = Math.min(due, nextDueMs(rule, tracker));
      // It may be one that fires unheard.
      if (tracker.state) due = Math.min(due, silenceEndsMs);
    }
    return due;
  }

  /** Writes what has changed, and when to go on. */
  async #write(
    db: Kysely<Database>,
    lease: Lease,
    nowMs: number,
    dueAtMs: number,
    found: readonly Found[],
  ): Promise<void> {
    const { revision, rules, silences, timed } = this.#memory;
    const owed = owedNotices(timed, silences, nowMs);
    const isQuiet = found.length === 0 && owed.length === 0;
    if (isQuiet && nowMs - this.#writtenAtMs < restMs.write && dueAtMs >= this.#writtenDueMs) return;
    const rows = await withTenant(db, this.#tenantId, async (trx) => {
      if (!(await confirmLease(trx, lease))) throw new StaleEvaluation("another process has taken over");
      const locked = await lockEvaluation(trx, this.#tenantId);
      if (locked.revision !== revision) {
        // Nothing is lost: the next evaluation takes in what has changed.
        if (isQuiet) return undefined;
        throw new StaleEvaluation("rules, silences or alerts have changed");
      }
      const changes = changesOf(this.#tenantId, found);
      const written = await writeChanges(trx, this.#tenantId, locked, changes, silences, nowMs);
      await tellOwed(trx, this.#tenantId, owed);
      await trx
        .updateTable("alert_evaluations")
        .set({ evaluated_until: new Date(nowMs), due_at: rules.length === 0 ? null : new Date(dueAtMs) })
        .where("tenant_id", "=", this.#tenantId)
        .execute();
      return written;
    });
    if (!rows) return;
    found.forEach(({ pair }, index) => {
      const row = rows[index];
      pair.alert = row?.state === "resolved" ? undefined : row;
    });
    for (const pair of owed) if (pair.alert) pair.alert = { ...pair.alert, muted: false };
    this.#writtenAtMs = nowMs;
    this.#writtenDueMs = dueAtMs;
  }
}

function note(pair: Pair, transitions: readonly Transition[], found: Found[]): void {
  for (const transition of transitions) found.push({ pair, transition });
}

/** How long a window is that is still empty. */
const unfilledMs = ({ rule, tracker }: Pair): number => (tracker.window?.isEmpty ? (rule.windowMs ?? 0) : 0);

function changesOf(tenantId: string, found: readonly Found[]): Change[] {
  const latest = new Map<Pair, AlertRow>();
  return found.map(({ pair, transition }) => {
    const before = transition.from === "inactive" ? undefined : (latest.get(pair) ?? pair.alert);
    const change = changeBy(before ?? newAlert(tenantId, pair, transition), pair.rule, transition);
    const { spec } = pair.rule;
    const alert: AlertRow = {
      ...change.alert,
      rule_name: spec.name,
      severity: severityOf(spec),
      // Rounded up, so that the sample is not taken in again.
      seen_at: new Date(Math.ceil(pair.tracker.lastMs)),
    };
    latest.set(pair, alert);
    return { ...change, alert };
  });
}

function newAlert(tenantId: string, { rule, subject }: Pair, { atMs }: Transition): AlertRow {
  return {
    tenant_id: tenantId,
    id: newResourceId(),
    rule_id: rule.id,
    rule_name: rule.spec.name,
    store_id: subject.storeId,
    subject_id: subject.id,
    metric_name: subject.metricName,
    labels: { ...subject.labels },
    severity: severityOf(rule.spec),
    state: "pending",
    message: "",
    value: null,
    started_at: new Date(atMs),
    since: new Date(atMs),
    fired_at: null,
    resolved_at: null,
    before_recovery: null,
    seen_at: null,
    acknowledged_by: null,
    acknowledged_at: null,
    acknowledged_note: null,
    acknowledged_until: null,
    muted: false,
    version: 0n,
    opened_sequence: 0n,
    closed_sequence: null,
  };
}
