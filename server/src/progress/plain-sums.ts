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
import type { Creator, Report } from "./report.ts";

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

/** Reports of one creator on one file that are written together. */
export class Sum {
  readonly first: Report;
  readonly reports: Report[] = [];
  readonly answers: Later<Outcome>[] = [];
  /** Being written: no more come to it. */
  isTaken = false;
  done = 0n;
  warn = 0n;
  failed = 0n;

  constructor(first: Report) {
    this.first = first;
  }

  add(report: Report): Later<Outcome> {
    const answer = new Later<Outcome>();
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
    this.answers.forEach((answer, index) => void answer.resolve(outcomes[index] as Outcome));
  }
}

const nothingKnown: ReadonlyMap<string, string> = new Map();

/** Counts plain reports. */
export interface PlainReports {
  /** Commits a report together with others. Throws OVERLOADED. */
  submit(tenantId: string, report: Report): Later<Outcome>;
}

export interface PlainReportsOptions {
  /** Reports that may wait. */
  readonly maxQueuedRows: number;
  /** Is told, after the commit, what has changed in which tenant. */
  tell(changed: ReadonlyMap<string, readonly DeltaRow[]>): void;
  /** Commits a report whose file is new, completed or another's. */
  commitOtherwise(tenantId: string, report: Report): Promise<Outcome>;
}

/** The sums of one creator on one file: the first one is being written, or has its place in the queue. */
interface Line {
  readonly tenantId: string;
  readonly file: string;
  readonly creator: Creator;
  readonly sums: Sum[];
}

export function createPlainReports(
  db: Kysely<Database>,
  { maxQueuedRows, tell, commitOtherwise }: PlainReportsOptions,
): PlainReports {
  const commits = new GroupCommit<Sum, SumOutcome>({
    flush: async (submissions) => tell(await flushSums(db, submissions)),
    maxRowsPerFlush: maxSumsPerFlush,
    maxFlushes,
    maxQueuedRows,
  });
  /** By file: seldom more than one, for there is one creator who may report on it. */
  const lines = new Map<string, Line[]>();
  let waiting = 0;

  const lineOf = (tenantId: string, { file, creator }: Report): Line => {
    let ofFile = lines.get(file);
    if (!ofFile) {
      ofFile = [];
      lines.set(file, ofFile);
    }
    for (const line of ofFile) if (line.tenantId === tenantId && isSame(line.creator, creator)) return line;
    const line: Line = { tenantId, file, creator, sums: [] };
    ofFile.push(line);
    return line;
  };
  const forget = (line: Line) => {
    const others = lines.get(line.file)?.filter((each) => each !== line) ?? [];
    if (others.length > 0) lines.set(line.file, others);
    else lines.delete(line.file);
  };

  const begin = (line: Line) => {
    const [sum] = line.sums;
    if (!sum) {
      forget(line);
      return;
    }
    const fail = (error: unknown) => settle(line, { result: "failed", error });
    try {
      commits.submit(line.tenantId, [sum]).then(([outcome]) => settle(line, outcome as SumOutcome), fail);
    } catch (error) {
      fail(error);
    }
  };
  const settle = (line: Line, outcome: SumOutcome) => {
    const sum = line.sums.shift() as Sum;
    begin(line);
    // What has come meanwhile is on its way before the callers of this one are answered, and come back: the group commit sends it
    // in the next turn of the event loop, and so they are answered behind it. PostgreSQL works meanwhile.
    setImmediate(tellCallers, line, sum, outcome);
  };
  const tellCallers = (line: Line, sum: Sum, outcome: SumOutcome) => {
    const { reports, answers } = sum;
    waiting -= reports.length;
    if (outcome.result === "counted") sum.answer(outcome.file);
    else if (outcome.result === "failed") for (const answer of answers) answer.reject(outcome.error);
    else
      reports.forEach((report, index) => {
        try {
          answers[index]?.resolve(commitOtherwise(line.tenantId, report));
        } catch (error) {
          answers[index]?.reject(error);
        }
      });
  };

  return {
    submit(tenantId, report) {
      if (waiting >= maxQueuedRows) throw commits.overloaded(1);
      waiting++;
      const line = lineOf(tenantId, report);
      const { sums } = line;
      const last = sums.at(-1);
      if (last && !last.isTaken && last.reports.length < maxReportsOfSum) return last.add(report);
      const sum = new Sum(report);
      const answer = sum.add(report);
      sums.push(sum);
      if (sums.length === 1) begin(line);
      return answer;
    },
  };
}

/** Reports of different creators are different sums: one of them is refused. */
const isSame = (one: Creator, other: Creator) => one.email === other.email && one.apiKeyId === other.apiKeyId;
