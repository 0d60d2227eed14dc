/**
 * Plain reports only add to counts. Those that arrive while their file's row is being written are added up and written next, as
 * one change: however many report on a file, its row is written once at a time, and one more caller costs an addition.
 *
 *   submit → the sum of the file that waits → its turn in the group commit → one row update → an answer for each report
 */
import type { Kysely } from "kysely";
import { GroupCommit } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { Later } from "../rpc/later.ts";
import type { DeltaRow } from "./delta.ts";
import { flushSums, type SumOutcome } from "./flush-plain.ts";
import { type FileState, fold, type Outcome } from "./fold.ts";
import type { Report } from "./report.ts";

/** Rows of one statement. */
const maxSumsPerFlush = 1_000;
/** One flush waits for the disk while the next is being written. */
const maxFlushes = 2;
/** Callers that are answered at one go, which others wait for. */
const maxReportsOfSum = 1_000;

/** Whether a report only adds to counts: nothing else has to be stored, and no earlier report to be known. */
export function isPlain({ request, identity }: Report): boolean {
  const { total, isLast, errors, warnings } = request;
  return !identity && !isLast && total === 0n && errors.length === 0 && warnings.length === 0;
}

/** Undefined: nothing became of it, it is to be counted in the usual way. */
export type PlainOutcome = Outcome | undefined;

/** Reports of one creator on one file that are written together. */
export class Sum {
  readonly first: Report;
  readonly reports: Report[] = [];
  readonly answers: Later<PlainOutcome>[] = [];
  /** Being written: no more come to it. */
  isTaken = false;
  done = 0n;
  warn = 0n;
  failed = 0n;

  constructor(first: Report) {
    this.first = first;
  }

  add(report: Report): Later<PlainOutcome> {
    const answer = new Later<PlainOutcome>();
    this.reports.push(report);
    this.answers.push(answer);
    const { counts } = report.request;
    if (counts) {
      this.done += counts.done;
      this.warn += counts.warn;
      this.failed += counts.failed;
    }
    return answer;
  }

  get lines(): number {
    return Number(this.done + this.warn + this.failed);
  }

  /** From where the file was the same steps lead to where it is, each with what its caller is to be told. */
  answer(after: FileState): void {
    const before: FileState = {
      ...after,
      done: after.done - this.done,
      warn: after.warn - this.warn,
      failed: after.failed - this.failed,
      version: after.version - 1n,
      recent: after.recent - this.lines,
    };
    const { outcomes } = fold(before, this.reports, nothingKnown, after.updatedAt, 0);
    this.answers.forEach((answer, index) => void answer.resolve(outcomes[index]));
  }
}

const nothingKnown: ReadonlyMap<string, string> = new Map();

/** Counts plain reports. */
export interface PlainReports {
  /** Commits a report together with others. Throws OVERLOADED. */
  submit(tenantId: string, report: Report): Later<PlainOutcome>;
}

/** `tell` is told, after the commit, what has changed in which tenant. */
export function createPlainReports(
  db: Kysely<Database>,
  maxQueuedRows: number,
  tell: (changed: ReadonlyMap<string, readonly DeltaRow[]>) => void,
): PlainReports {
  const commits = new GroupCommit<Sum, SumOutcome>({
    flush: async (submissions) => tell(await flushSums(db, submissions)),
    maxRowsPerFlush: maxSumsPerFlush,
    maxFlushes,
    maxQueuedRows,
  });
  /** By file and creator; the first of each is being written, or has its place in the queue. */
  const lines = new Map<string, Sum[]>();
  let waiting = 0;

  const settle = (name: string, line: Sum[], outcome: SumOutcome) => {
    const sum = line.shift() as Sum;
    const next = line[0];
    if (next) begin(name, line, next);
    else lines.delete(name);
    waiting -= sum.reports.length;
    if (outcome.result === "counted") sum.answer(outcome.file);
    else if (outcome.result === "undecided") for (const answer of sum.answers) answer.resolve(undefined);
    else for (const answer of sum.answers) answer.reject(outcome.error);
  };
  const begin = (name: string, line: Sum[], sum: Sum) => {
    try {
      commits.submit(tenantOf(name), [sum]).then(
        ([outcome]) => settle(name, line, outcome as SumOutcome),
        (error: unknown) => settle(name, line, { result: "failed", error }),
      );
    } catch (error) {
      settle(name, line, { result: "failed", error });
    }
  };

  return {
    submit(tenantId, report) {
      if (waiting >= maxQueuedRows) throw commits.overloaded(1);
      const name = nameOf(tenantId, report);
      const line = lines.get(name);
      let sum = line?.at(-1);
      if (sum && !sum.isTaken && sum.reports.length < maxReportsOfSum) {
        waiting++;
        return sum.add(report);
      }
      sum = new Sum(report);
      waiting++;
      const answer = sum.add(report);
      if (line) line.push(sum);
      else {
        const made = [sum];
        lines.set(name, made);
        begin(name, made, sum);
      }
      return answer;
    },
  };
}

const uuidLength = 36;

/** Reports of different creators are different sums: one of them is refused. */
function nameOf(tenantId: string, { file, creator: { email, apiKeyId } }: Report): string {
  return `${tenantId} ${file}\n${email}\n${apiKeyId}`;
}

const tenantOf = (name: string) => name.slice(0, uuidLength);
