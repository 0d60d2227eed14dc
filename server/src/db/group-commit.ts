/**
 * Group commit: calls that arrive while a flush is under way join the next one, so that one transaction, and one wait
 * for the disk, serves many callers. A caller is answered after the commit that holds its rows.
 *
 *   submit → queue → (a flusher is free) → take up to maxRows → one transaction → answer each submission
 *
 * The queue is bounded in rows and bytes. Under pressure priority decides who waits and who is refused: what is urgent goes
 * first, unless something else has waited too long, and the last part of the queue is kept for it. What is equally urgent goes
 * tenant by tenant in turns.
 *
 * A flush that fails because of its data is split into its submissions, so that one bad row harms its own call only.
 */
import type { ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import { Later } from "../rpc/later.ts";
import { Lane } from "./lane.ts";
import { classifyDatabaseError } from "./sqlstate.ts";

/** The rows of one call. */
export interface Submission<Row, Result> {
  readonly tenantId: string;
  readonly rows: readonly Row[];
  /** Filled in by the flush: one result for each row, in order. */
  results: readonly Result[];
}

export interface GroupCommitOptions<Row, Result> {
  /** Writes all submissions in one transaction and fills in their results. */
  flush(submissions: readonly Submission<Row, Result>[]): Promise<void>;
  /** Rows that one flush takes at most; a larger call is flushed whole. */
  maxRowsPerFlush: number;
  /** Flushes under way at once, each on a connection of its own. */
  maxFlushes: number;
  /**
   * Rows that must wait before another flush begins beside one that is under way: few rows cost less in the flush after it.
   * Default 1.
   */
  minRowsBeside?: number;
  /** How many table rows a row of a submission stands for. Default 1. */
  weigh?(row: Row): number;
  /** Rows that may wait; beyond, `submit` refuses with OVERLOADED. */
  maxQueuedRows: number;
  /** Bytes that may wait, as far as submissions tell theirs. Default: without bound. */
  maxQueuedBytes?: number;
}

/** What a submission may tell of itself. */
export interface Urgency {
  /** 1 to 10; the higher goes first. Default 10. */
  readonly priority?: number;
  /** Memory that the rows hold. Default 0. */
  readonly bytes?: number;
}

interface Waiting<Row, Result> extends Submission<Row, Result> {
  readonly weight: number;
  readonly bytes: number;
  readonly since: number;
  readonly answer: Later<readonly Result[]>;
}

const maxPriority = 10;
/** The part of the queue that the lowest priority may fill; each further one a little more, the highest all of it. */
const leastShare = 0.5;
/** After this time a submission goes first, whatever its priority. */
const patienceMs = 2_000;
/** The bounds of the time after which refused callers come back. */
const retryMs = { least: 100, most: 10_000, unknown: 1_000 };
/** How much less each flush counts in the rate than the one after it. */
const fading = 0.9;
/** In this time what was refused fades to a third: about as long as callers stay away. */
const refusalFadesMs = 1_000;

export class GroupCommit<Row, Result> {
  readonly #options: GroupCommitOptions<Row, Result>;
  /** By priority. */
  readonly #lanes: Lane<Waiting<Row, Result>>[] = Array.from({ length: maxPriority + 1 }, () => new Lane());
  #queued = 0;
  #queuedRows = 0;
  #queuedBytes = 0;
  #flushes = 0;
  /** Rows that were lately written and the milliseconds that it took, the older the less. */
  #written = 0;
  #writtenCalls = 0;
  #writingMs = 0;
  #lastFlushAt = 0;
  /** Rows that were lately refused, the older the less. */
  #refused = 0;
  #lastRefusalAt = 0;

  constructor(options: GroupCommitOptions<Row, Result>) {
    this.#options = options;
  }

  /** Commits rows together with those of other calls. Throws OVERLOADED when the queue has no room for them. */
  submit(tenantId: string, rows: readonly Row[], urgency: Urgency = {}): Later<readonly Result[]> {
    const { weigh } = this.#options;
    const { priority = maxPriority, bytes = 0 } = urgency;
    const weight = weigh ? rows.reduce((sum, row) => sum + weigh(row), 0) : rows.length;
    if (weight > this.room(priority) || !this.#hasBytes(bytes, priority)) throw this.overloaded(weight);
    const answer = new Later<readonly Result[]>();
    const since = performance.now();
    this.#lanes[priority]?.add({ tenantId, rows, weight, bytes, since, results: [], answer });
    this.#queued++;
    this.#queuedRows += weight;
    this.#queuedBytes += bytes;
    this.#start();
    return answer;
  }

  /** Rows that a submission of this priority may have now. An empty queue takes any. */
  room(priority: number): number {
    if (this.#queuedRows === 0) return Number.POSITIVE_INFINITY;
    return Math.floor(this.#options.maxQueuedRows * shareOf(priority)) - this.#queuedRows;
  }

  /**
   * After how long there may be room again, milliseconds: some time before all that waits now, and all that was refused and
   * will come back, will have been written, so that there is always something to write, and not the same for all, so that
   * they do not come back at once. Who comes back in vain costs the others.
   */
  retryAfterMs(): number {
    const ahead = this.#queuedRows + this.#refusedRows();
    const waitMs = this.#written > 0 ? (ahead * this.#writingMs) / this.#written : retryMs.unknown;
    const part = 0.25 + 0.75 * Math.random();
    return Math.round(Math.min(retryMs.most, Math.max(retryMs.least, waitMs * part)));
  }

  #refusedRows(): number {
    return this.#refused * Math.exp((this.#lastRefusalAt - performance.now()) / refusalFadesMs);
  }

  #hasBytes(bytes: number, priority: number): boolean {
    const { maxQueuedBytes = Number.POSITIVE_INFINITY } = this.#options;
    return this.#queuedBytes === 0 || this.#queuedBytes + bytes <= maxQueuedBytes * shareOf(priority);
  }

  /** The refusal of who finds no room for so many rows; not given: for a call of usual size. */
  overloaded(rows = this.#writtenCalls > 0 ? this.#written / this.#writtenCalls : 1): ConnectError {
    this.#refused = this.#refusedRows() + rows;
    this.#lastRefusalAt = performance.now();
    return failure(
      ErrorReason.OVERLOADED,
      "the server has more to write than it can hold; send again later",
      { retryAfterMs: this.retryAfterMs() },
    );
  }

  #start(): void {
    while (this.#mayFlush()) {
      // The rate is that of writing: a time in which nothing was to be written does not count.
      if (this.#flushes === 0) this.#lastFlushAt = performance.now();
      this.#flushes++;
      // One turn of the event loop later, so that calls that are just being read join this flush.
      setImmediate(() => {
        const taken = this.#take();
        this.#flush(taken).finally(() => {
          this.#flushes--;
          this.#note(taken);
          this.#start();
        });
      });
    }
  }

  #mayFlush(): boolean {
    if (this.#queued === 0) return false;
    if (this.#flushes === 0) return true;
    const { maxFlushes, minRowsBeside = 1 } = this.#options;
    return this.#flushes < maxFlushes && this.#queuedRows >= minRowsBeside;
  }

  #take(): Waiting<Row, Result>[] {
    const taken: Waiting<Row, Result>[] = [];
    const { maxRowsPerFlush } = this.#options;
    let rows = 0;
    const impatient = performance.now() - patienceMs;
    for (const lane of this.#lanes.slice(1, maxPriority))
      rows += lane.take(taken, maxRowsPerFlush - rows, impatient);
    for (const lane of this.#lanes.toReversed()) rows += lane.take(taken, maxRowsPerFlush - rows);
    for (const { bytes } of taken) this.#queuedBytes -= bytes;
    this.#queued -= taken.length;
    this.#queuedRows -= rows;
    return taken;
  }

  async #flush(submissions: Waiting<Row, Result>[]): Promise<void> {
    if (submissions.length === 0) return;
    try {
      await this.#options.flush(submissions);
      for (const submission of submissions) submission.answer.resolve(submission.results);
    } catch (error) {
      if (submissions.length > 1 && isFaultOfRows(error)) {
        for (const submission of submissions) await this.#flush([submission]);
      } else {
        for (const submission of submissions) submission.answer.reject(error);
      }
    }
  }

  /** Keeps the rate at which rows have lately been written. */
  #note(submissions: readonly Waiting<Row, Result>[]): void {
    const now = performance.now();
    const elapsed = now - this.#lastFlushAt;
    this.#lastFlushAt = now;
    const rows = submissions.reduce((sum, { weight }) => sum + weight, 0);
    this.#written = fading * this.#written + rows;
    this.#writtenCalls = fading * this.#writtenCalls + submissions.length;
    this.#writingMs = fading * this.#writingMs + elapsed;
  }
}

function shareOf(priority: number): number {
  return leastShare + ((1 - leastShare) * (priority - 1)) / (maxPriority - 1);
}

function isFaultOfRows(error: unknown): boolean {
  const kind = classifyDatabaseError(error)?.kind;
  return kind === "invalid" || kind === "precondition" || kind === "conflict";
}
