import { recentAfter } from "./derive.ts";
import type { Creator, Report } from "./report.ts";

/** A file as it is stored. */
export interface FileState {
  readonly id: string;
  readonly creator: Creator;
  readonly done: bigint;
  readonly warn: bigint;
  readonly failed: bigint;
  readonly total: bigint | null;
  /** 0: made in this transaction, and nothing has counted yet. */
  readonly version: bigint;
  readonly recent: number;
  readonly errorCount: bigint;
  readonly warningCount: bigint;
  readonly hasErrors: boolean;
  readonly hasUpdateIds: boolean;
  readonly createdAt: Date;
  readonly updatedAt: Date;
  readonly completedAt: Date | null;
}

/** Why a report was not counted. */
export type Refusal = "not-creator" | "completed" | "conflict";

/** What became of a report, and the file right after it. */
export type Outcome =
  | { readonly result: "created" | "updated" | "duplicate"; readonly file: FileState }
  | { readonly result: "refused"; readonly refusal: Refusal };

/** What reports on one file that arrived together come to. */
export interface Folded {
  readonly after: FileState;
  /** One for each report, in order. */
  readonly outcomes: readonly Outcome[];
  /** Those that counted: whose line issues and update ids are to be stored. */
  readonly counted: readonly Report[];
}

/**
 * Adds reports to a file, in order. `known` are the digests of update ids that have counted before, by their key. All that
 * count make one change, one version further; each sees the counts right after its own.
 */
export function fold(
  before: FileState,
  reports: readonly Report[],
  known: ReadonlyMap<string, string>,
  now: Date,
  graceMs: number,
): Folded {
  const seen = new Map<string, string>();
  const counted: Report[] = [];
  const outcomes: Outcome[] = [];
  const updatedAt = now > before.updatedAt ? now : before.updatedAt;
  const version = before.version + 1n;
  let file = before;
  let recent = recentAfter(before.recent, updatedAt.getTime() - before.updatedAt.getTime(), 0);
  for (const report of reports) {
    const refusal = refusalOf(file, report, updatedAt, graceMs);
    const { identity } = report;
    const earlier = identity && (seen.get(identity.key) ?? known.get(identity.key));
    if (refusal === "not-creator") {
      outcomes.push({ result: "refused", refusal });
    } else if (earlier !== undefined) {
      outcomes.push(
        earlier === identity?.digest
          ? { result: "duplicate", file }
          : { result: "refused", refusal: "conflict" },
      );
    } else if (refusal) {
      outcomes.push({ result: "refused", refusal });
    } else {
      if (identity) seen.set(identity.key, identity.digest);
      recent += linesOf(report);
      file = add(file, report, version, recent, updatedAt);
      counted.push(report);
      outcomes.push({ result: version === 1n && counted.length === 1 ? "created" : "updated", file });
    }
  }
  return { after: file, outcomes, counted };
}

function refusalOf(
  { creator, completedAt }: FileState,
  report: Report,
  now: Date,
  graceMs: number,
): Refusal | undefined {
  if (creator.email !== report.creator.email || creator.apiKeyId !== report.creator.apiKeyId)
    return "not-creator";
  if (!completedAt) return undefined;
  // Only a report that can be recognised may have been overtaken, rather than be a mistake.
  const inGrace = report.identity !== undefined && now.getTime() < completedAt.getTime() + graceMs;
  return inGrace ? undefined : "completed";
}

function add(
  file: FileState,
  { request, identity }: Report,
  version: bigint,
  recent: number,
  now: Date,
): FileState {
  const { counts, total, errors, warnings } = request;
  const done = file.done + (counts?.done ?? 0n);
  const warn = file.warn + (counts?.warn ?? 0n);
  const failed = file.failed + (counts?.failed ?? 0n);
  return {
    id: file.id,
    creator: file.creator,
    done,
    warn,
    failed,
    total: total > (file.total ?? 0n) ? total : file.total,
    version,
    recent,
    errorCount: errors.length > 0 ? file.errorCount + BigInt(errors.length) : file.errorCount,
    warningCount: warnings.length > 0 ? file.warningCount + BigInt(warnings.length) : file.warningCount,
    hasErrors: file.hasErrors || errors.length > 0 || failed > 0n,
    hasUpdateIds: file.hasUpdateIds || identity !== undefined,
    createdAt: file.createdAt,
    updatedAt: now,
    completedAt: file.completedAt ?? (request.isLast ? now : null),
  };
}

function linesOf({ request: { counts } }: Report): number {
  return counts ? Number(counts.done + counts.warn + counts.failed) : 0;
}
