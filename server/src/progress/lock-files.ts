import { type Selectable, sql } from "kysely";
import { textArray, uuidArray } from "../db/binary-array.ts";
import type { ProgressFilesTable } from "../db/schema/progress.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import type { FileState } from "./fold.ts";
import type { Report } from "./report.ts";

type Row = Selectable<ProgressFilesTable>;

/** The files with these keys that are there, locked until the commit, by key. Keys must be in order. */
export async function lockFiles(
  trx: TenantTransaction,
  tenantId: string,
  files: readonly { readonly key: string }[],
): Promise<Map<string, FileState>> {
  const { rows } = await sql<Row>`/* kept as lock_progress_files */
    select id, key, email, api_key_id, done, warn, failed, total, version, recent, error_count, warning_count, has_errors,
      has_update_ids, created_at, updated_at, completed_at
    from progress_files
    where tenant_id = ${tenantId}::uuid and key = any(${uuidArray(files.map(({ key }) => key))}::uuid[])
    order by key for update`.execute(trx);
  return new Map(rows.map((row) => [row.key, stateOf(row)]));
}

/** Makes files, empty and of version 0, unless somebody else has made them meanwhile. */
export async function makeFiles(
  trx: TenantTransaction,
  tenantId: string,
  files: readonly { readonly key: string; readonly reports: readonly Report[] }[],
  now: Date,
  nextId: () => string,
): Promise<void> {
  const firsts = files.map(({ reports }) => reports[0] as Report);
  await sql`/* kept as make_progress_files */
    insert into progress_files (tenant_id, key, id, client_krn, filename, email, api_key_id, created_at, updated_at)
    select ${tenantId}::uuid, t.key, t.id, t.client_krn, t.filename, t.email, t.api_key_id::uuid, ${now}, ${now}
    from unnest(
      ${uuidArray(files.map(({ key }) => key))}::uuid[], ${uuidArray(files.map(nextId))}::uuid[],
      ${textArray(firsts.map(({ request }) => request.clientKrn))}::text[],
      ${textArray(firsts.map(({ request }) => request.filename))}::text[],
      ${textArray(firsts.map(({ creator }) => creator.email))}::text[],
      ${textArray(firsts.map(({ creator }) => creator.apiKeyId))}::text[]
    ) as t (key, id, client_krn, filename, email, api_key_id)
    order by t.key
    on conflict do nothing`.execute(trx);
}

/** A row as it is reckoned with. */
export function stateOf(row: Omit<Row, "key" | "sequence" | "client_krn" | "filename">): FileState {
  return {
    id: row.id,
    creator: { email: row.email, apiKeyId: row.api_key_id },
    done: row.done,
    warn: row.warn,
    failed: row.failed,
    total: row.total,
    version: row.version,
    recent: row.recent,
    errorCount: row.error_count,
    warningCount: row.warning_count,
    hasErrors: row.has_errors,
    hasUpdateIds: row.has_update_ids,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    completedAt: row.completed_at,
  };
}
