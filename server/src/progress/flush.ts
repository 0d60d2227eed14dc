import { type Kysely, sql } from "kysely";
import {
  byteaArray,
  float8Array,
  int2Array,
  int8Array,
  textArray,
  timestampArray,
  uuidArray,
} from "../db/binary-array.ts";
import type { Submission } from "../db/group-commit.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import { uuidFromHash } from "../db/uuid.ts";
import { LineIssueKind } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import { createEventIds } from "../ingestion/ids.ts";
import { emitWebhookEvent } from "../webhooks/emit.ts";
import { completedEvent } from "./completed-event.ts";
import { type DeltaRow, deltaOf } from "./delta.ts";
import { type FileState, type Folded, fold, type Outcome } from "./fold.ts";
import { lockFiles, makeFiles } from "./lock-files.ts";
import type { Report } from "./report.ts";

/** Reports on one file, in the order of their arrival. */
interface FileReports {
  readonly key: string;
  readonly reports: readonly Report[];
}

interface Change extends Folded {
  readonly before: FileState;
  readonly first: Report;
}

const nextId = createEventIds();

/**
 * Counts the reports of many calls in one transaction, one row update for each file, and tells what became of each. Returns
 * the changes of each tenant in which something has changed.
 */
export async function flushReports(
  db: Kysely<Database>,
  submissions: readonly Submission<Report, Outcome>[],
  graceMs: number,
): Promise<Map<string, readonly DeltaRow[]>> {
  const byTenant = Map.groupBy(submissions, ({ tenantId }) => tenantId);
  const changed = new Map<string, readonly DeltaRow[]>();
  await withTenants(db, async (enter) => {
    changed.clear();
    // Always the same order of tenants and files, so that two flushes never wait for each other crosswise.
    for (const tenantId of [...byTenant.keys()].sort()) {
      const trx = await enter(tenantId);
      const deltas = await flushTenant(trx, tenantId, byTenant.get(tenantId) ?? [], graceMs);
      if (deltas.length > 0) changed.set(tenantId, deltas);
    }
  });
  return changed;
}

async function flushTenant(
  trx: TenantTransaction,
  tenantId: string,
  calls: readonly Submission<Report, Outcome>[],
  graceMs: number,
): Promise<readonly DeltaRow[]> {
  const byFile = Map.groupBy(
    calls.flatMap(({ rows }) => rows),
    ({ file }) => file,
  );
  const files = Array.from(byFile, ([file, reports]): FileReports => ({ key: uuidFromHash(file), reports }));
  files.sort((a, b) => (a.key < b.key ? -1 : 1));
  const now = new Date();
  const states = await lockFiles(trx, tenantId, files);
  const missing = files.filter(({ key }) => !states.has(key));
  if (missing.length > 0) {
    await makeFiles(trx, tenantId, missing, now, nextId);
    for (const [key, state] of await lockFiles(trx, tenantId, missing)) states.set(key, state);
  }
  const known = await knownUpdates(trx, tenantId, files, states);

  const outcomeOf = new Map<Report, Outcome>();
  const changes: Change[] = [];
  for (const { key, reports } of files) {
    const before = states.get(key);
    if (!before) throw new Error("a file is neither new nor known");
    const folded = fold(before, reports, known.get(before.id) ?? new Map(), now, graceMs);
    reports.forEach((report, index) => {
      outcomeOf.set(report, folded.outcomes[index] as Outcome);
    });
    if (folded.counted.length > 0) changes.push({ ...folded, before, first: reports[0] as Report });
  }
  for (const call of calls) call.results = call.rows.map((row) => outcomeOf.get(row) as Outcome);
  if (changes.length === 0) return [];

  await insertUpdates(trx, tenantId, changes, now);
  await insertLineIssues(trx, tenantId, changes, now);
  for (const change of changes) {
    if (change.before.completedAt || !change.after.completedAt) continue;
    const { clientKrn, filename } = change.first.request;
    await emitWebhookEvent(
      trx,
      tenantId,
      "progress.completed",
      completedEvent(clientKrn, filename, change.after),
    );
  }
  // Last, for it holds the tenant's feed until the commit.
  return await writeChanges(trx, tenantId, changes);
}

/** The digests of the update ids in these reports that have counted before, by file and key. */
async function knownUpdates(
  trx: TenantTransaction,
  tenantId: string,
  files: readonly FileReports[],
  states: ReadonlyMap<string, FileState>,
): Promise<Map<string, Map<string, string>>> {
  const fileIds: string[] = [];
  const keys: string[] = [];
  for (const { key, reports } of files) {
    const state = states.get(key);
    if (!state?.hasUpdateIds) continue;
    for (const { identity } of reports) {
      if (!identity) continue;
      fileIds.push(state.id);
      keys.push(identity.key);
    }
  }
  const known = new Map<string, Map<string, string>>();
  if (keys.length === 0) return known;
  const { rows } = await sql<{ file_id: string; key: string; digest: Buffer }>`
    /* kept as find_progress_updates */
    select u.file_id, u.key, u.digest
    from unnest(${uuidArray(fileIds)}::uuid[], ${uuidArray(keys)}::uuid[]) as t (file_id, key)
    join progress_updates u on u.tenant_id = ${tenantId}::uuid and u.file_id = t.file_id and u.key = t.key`.execute(
    trx,
  );
  for (const { file_id, key, digest } of rows) {
    const ofFile = known.get(file_id) ?? new Map<string, string>();
    ofFile.set(key, digest.toString("latin1"));
    known.set(file_id, ofFile);
  }
  return known;
}

async function insertUpdates(
  trx: TenantTransaction,
  tenantId: string,
  changes: readonly Change[],
  now: Date,
): Promise<void> {
  const rows = changes.flatMap(({ after, counted }) =>
    counted.flatMap(({ identity }) => (identity ? [{ fileId: after.id, ...identity }] : [])),
  );
  if (rows.length === 0) return;
  await sql`/* kept as insert_progress_updates */
    insert into progress_updates (tenant_id, file_id, key, digest, received_at)
    select ${tenantId}::uuid, t.*, ${now}::timestamptz
    from unnest(
      ${uuidArray(rows.map(({ fileId }) => fileId))}::uuid[], ${uuidArray(rows.map(({ key }) => key))}::uuid[],
      ${byteaArray(rows.map(({ digest }) => digest))}::bytea[]
    ) as t`.execute(trx);
}

async function insertLineIssues(
  trx: TenantTransaction,
  tenantId: string,
  changes: readonly Change[],
  now: Date,
): Promise<void> {
  const rows = changes.flatMap(({ after, counted }) =>
    counted.flatMap(({ request: { errors, warnings } }) => [
      ...errors.map((issue) => ({ issue, fileId: after.id, kind: LineIssueKind.ERROR })),
      ...warnings.map((issue) => ({ issue, fileId: after.id, kind: LineIssueKind.WARNING })),
    ]),
  );
  if (rows.length === 0) return;
  await sql`/* kept as insert_line_issues */
    insert into progress_line_issues (tenant_id, file_id, kind, line, id, message, raw_line, reported_at)
    select ${tenantId}::uuid, t.*, ${now}::timestamptz
    from unnest(
      ${uuidArray(rows.map(({ fileId }) => fileId))}::uuid[], ${int2Array(rows.map(({ kind }) => kind))}::smallint[],
      ${int8Array(rows.map(({ issue }) => issue.line))}::bigint[], ${uuidArray(rows.map(() => nextId()))}::uuid[],
      ${textArray(rows.map(({ issue }) => issue.message))}::text[],
      ${textArray(rows.map(({ issue }) => issue.rawLine))}::text[]
    ) as t`.execute(trx);
}

/**
 * Writes the new state of each file, and the same as a change in the feed, numbered in the order of the commits. Returns the
 * changes with their numbers.
 */
async function writeChanges(
  trx: TenantTransaction,
  tenantId: string,
  changes: readonly Change[],
): Promise<readonly DeltaRow[]> {
  const files = changes.map(({ after }) => after);
  const column = <K extends keyof FileState>(name: K) => files.map((file) => file[name]);
  const { rows } = await sql<{ file_id: string; sequence: bigint }>`/* kept as write_progress */
    with feed as (
      insert into progress_feeds as f (tenant_id, sequence) values (${tenantId}::uuid, ${files.length}::bigint)
      on conflict (tenant_id) do update set sequence = f.sequence + excluded.sequence
      returning sequence - ${files.length}::bigint as base
    ), change as (
      select t.*, feed.base + t.place as sequence
      from feed, unnest(
        ${uuidArray(column("id"))}::uuid[], ${textArray(changes.map(({ first }) => first.request.clientKrn))}::text[],
        ${int8Array(column("version"))}::bigint[], ${int8Array(column("done"))}::bigint[],
        ${int8Array(column("warn"))}::bigint[], ${int8Array(column("failed"))}::bigint[],
        ${int8Array(column("total"))}::bigint[], ${float8Array(column("recent"))}::float8[],
        ${int8Array(column("errorCount"))}::bigint[], ${int8Array(column("warningCount"))}::bigint[],
        ${timestampArray(column("updatedAt"))}::timestamptz[], ${timestampArray(column("completedAt"))}::timestamptz[],
        ${int2Array(files.map(flagsOf))}::smallint[]
      ) with ordinality as t (id, client_krn, version, done, warn, failed, total, recent, error_count, warning_count,
        updated_at, completed_at, flags, place)
    ), written as (
      update progress_files f set
        version = c.version, done = c.done, warn = c.warn, failed = c.failed, total = c.total, recent = c.recent,
        error_count = c.error_count, warning_count = c.warning_count, updated_at = c.updated_at,
        completed_at = c.completed_at, has_errors = (c.flags & 1) > 0, has_update_ids = (c.flags & 2) > 0,
        sequence = c.sequence
      from change c where f.tenant_id = ${tenantId}::uuid and f.id = c.id
    )
    insert into progress_deltas (tenant_id, sequence, file_id, client_krn, version, done, warn, failed, total, recent,
      error_count, warning_count, updated_at, completed_at)
    select ${tenantId}::uuid, sequence, id, client_krn, version, done, warn, failed, total, recent,
      error_count, warning_count, updated_at, completed_at
    from change
    returning file_id, sequence`.execute(trx);
  const sequences = new Map(rows.map((row) => [row.file_id, row.sequence]));
  return changes.map(({ after, first }) => deltaOf(after, first.request, sequences.get(after.id) ?? 0n));
}

function flagsOf({ hasErrors, hasUpdateIds }: FileState): number {
  return Number(hasErrors) + 2 * Number(hasUpdateIds);
}
