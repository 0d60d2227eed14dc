/**
 * Group commit: calls that arrive while a flush is under way join the next one, so that one transaction, and one wait
 * for the disk, serves many callers. A caller is answered after the commit that holds its rows.
 *
 *   submit → queue → (a flusher is free) → take up to maxRows → one transaction → answer each submission
 *
 * A flush that fails because of its data is split into its submissions, so that one bad row harms its own call only.
 */
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import { classifyDatabaseError } from "./sqlstate.ts";

/** The rows of one call. */
export interface Submission<Row, Result> {
  readonly tenantId: string;
  readonly rows: readonly Row[];
  /** Filled in by the flush: one result for each row, in order. */
  results: Result[];
}

export interface GroupCommitOptions<Row, Result> {
  /** Writes all submissions in one transaction and fills in their results. */
  flush(submissions: readonly Submission<Row, Result>[]): Promise<void>;
  /** Rows that one flush takes at most; a larger call is flushed whole. */
  maxRowsPerFlush: number;
  /** Flushes under way at once, each on a connection of its own. */
  maxFlushes: number;
  /** How many table rows a row of a submission stands for. Default 1. */
  weigh?(row: Row): number;
  /** Rows that may wait; beyond, `submit` refuses with OVERLOADED. */
  maxQueuedRows: number;
}

interface Waiting<Row, Result> extends Submission<Row, Result> {
  readonly weight: number;
  resolve(results: Result[]): void;
  reject(error: unknown): void;
}

const overloadedRetryMs = 1_000;

export class GroupCommit<Row, Result> {
  readonly #options: GroupCommitOptions<Row, Result>;
  #queue: Waiting<Row, Result>[] = [];
  #queuedRows = 0;
  #flushes = 0;

  constructor(options: GroupCommitOptions<Row, Result>) {
    this.#options = options;
  }

  /** Commits rows together with those of other calls. Throws OVERLOADED when the queue is full. */
  submit(tenantId: string, rows: readonly Row[]): Promise<Result[]> {
    const { weigh } = this.#options;
    const weight = weigh ? rows.reduce((sum, row) => sum + weigh(row), 0) : rows.length;
    if (this.#queuedRows > 0 && this.#queuedRows + weight > this.#options.maxQueuedRows) {
      throw failure(
        ErrorReason.OVERLOADED,
        "the server has more to write than it can hold; send again later",
        {
          retryAfterMs: overloadedRetryMs,
        },
      );
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ tenantId, rows, weight, results: [], resolve, reject });
      this.#queuedRows += weight;
      this.#start();
    });
  }

  #start(): void {
    while (this.#flushes < this.#options.maxFlushes && this.#queue.length > 0) {
      this.#flushes++;
      // One turn of the event loop later, so that calls that are just being read join this flush.
      setImmediate(() => {
        this.#flush(this.#take()).finally(() => {
          this.#flushes--;
          this.#start();
        });
      });
    }
  }

  #take(): Waiting<Row, Result>[] {
    let rows = 0;
    let count = 0;
    for (const submission of this.#queue) {
      if (count > 0 && rows + submission.weight > this.#options.maxRowsPerFlush) break;
      rows += submission.weight;
      count++;
    }
    this.#queuedRows -= rows;
    return this.#queue.splice(0, count);
  }

  async #flush(submissions: Waiting<Row, Result>[]): Promise<void> {
    if (submissions.length === 0) return;
    try {
      await this.#options.flush(submissions);
      for (const submission of submissions) submission.resolve(submission.results);
    } catch (error) {
      if (submissions.length > 1 && isFaultOfRows(error)) {
        for (const submission of submissions) await this.#flush([submission]);
      } else {
        for (const submission of submissions) submission.reject(error);
      }
    }
  }
}

function isFaultOfRows(error: unknown): boolean {
  const kind = classifyDatabaseError(error)?.kind;
  return kind === "invalid" || kind === "precondition" || kind === "conflict";
}
