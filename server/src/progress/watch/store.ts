import { sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { DeltaRow } from "../delta.ts";
import { fileKey } from "../report.ts";
import type { FileRow } from "../store.ts";
import type { Scope } from "./scope.ts";

/** How far a tenant's feed goes. */
export interface FeedEnds {
  /** The number of the last change. */
  readonly sequence: bigint;
  /** Changes up to this one are deleted. */
  readonly pruned: bigint;
}

export async function readEnds(trx: TenantTransaction, tenantId: string): Promise<FeedEnds> {
  const row = await trx
    .selectFrom("progress_feeds")
    .select(["sequence", "pruned"])
    .where("tenant_id", "=", tenantId)
    .executeTakeFirst();
  return row ?? { sequence: 0n, pruned: 0n };
}

/** The changes in a scope after a number, in the order of their commits; up to and with `until` where it is given. */
export async function readDeltas(
  trx: TenantTransaction,
  tenantId: string,
  { clientKrn, filename }: Scope,
  after: bigint,
  limit: number,
  until?: bigint,
): Promise<DeltaRow[]> {
  let select = trx
    .selectFrom("progress_deltas as d")
    .innerJoin("progress_files as f", (join) =>
      join.onRef("f.tenant_id", "=", "d.tenant_id").onRef("f.id", "=", "d.file_id"),
    )
    .select([
      "d.sequence",
      "d.file_id as fileId",
      "d.client_krn as clientKrn",
      "f.filename",
      "d.version",
      "d.done",
      "d.warn",
      "d.failed",
      "d.total",
      "d.recent",
      "d.error_count as errorCount",
      "d.warning_count as warningCount",
      "f.created_at as createdAt",
      "d.updated_at as updatedAt",
      "d.completed_at as completedAt",
    ])
    .where("d.tenant_id", "=", tenantId)
    .where("d.sequence", ">", after)
    .orderBy("d.sequence")
    .limit(limit);
  if (until !== undefined) select = select.where("d.sequence", "<=", until);
  if (filename) {
    const file = sql<string>`(select id from progress_files
      where tenant_id = ${tenantId} and key = ${fileKey(clientKrn, filename)})`;
    return await select.where("d.file_id", "=", file).execute();
  }
  if (clientKrn) return await select.where("d.client_krn", "=", clientKrn).execute();
  return await select.execute();
}

/** One file, and how far the feed went at that moment. */
export async function readFile(
  trx: TenantTransaction,
  tenantId: string,
  { clientKrn, filename }: Scope,
): Promise<{ ends: FeedEnds; file: FileRow | undefined }> {
  // In one statement, so that both are of one moment.
  const { rows } = await sql<Partial<FileRow> & { feed: bigint | null }>`
    select (select sequence from progress_feeds where tenant_id = ${tenantId}) as feed, f.*
    from (select) as one
    left join progress_files f on f.tenant_id = ${tenantId} and f.key = ${fileKey(clientKrn, filename)}`.execute(
    trx,
  );
  const [row] = rows;
  return {
    ends: { sequence: row?.feed ?? 0n, pruned: 0n },
    file: row?.id ? (row as FileRow) : undefined,
  };
}

/** A page of the files in a scope in the order in which they were made. */
export async function readFiles(
  trx: TenantTransaction,
  tenantId: string,
  { clientKrn }: Scope,
  withCompleted: boolean,
  limit: number,
  afterId: string | undefined,
): Promise<FileRow[]> {
  let select = trx
    .selectFrom("progress_files")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .orderBy("id")
    .limit(limit);
  if (clientKrn) select = select.where("client_krn", "=", clientKrn);
  if (!withCompleted) select = select.where("completed_at", "is", null);
  if (afterId) select = select.where("id", ">", afterId);
  return await select.execute();
}
