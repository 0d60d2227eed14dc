/** Writes what came of attempts: many in one transaction, each once, whoever else has claimed meanwhile. */
import { type Kysely, sql } from "kysely";
import type { WebhooksConfig } from "../config/webhooks.ts";
import type { StoredAttempt, StoredDeliveryStatus } from "../db/schema/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { type WorkerTransaction, withWorker } from "../db/tenant.ts";
import type { ClaimedDelivery } from "./claim.ts";

/** What came of one claim. */
export interface Result {
  readonly delivery: ClaimedDelivery;
  readonly status: StoredDeliveryStatus;
  /** Undefined: it was not tried. */
  readonly attempt: StoredAttempt | undefined;
  /** Of PENDING and RETRYING: when next. */
  readonly dueMs: number | undefined;
  readonly atMs: number;
  /** The receiver wants no more. */
  readonly gone: boolean;
}

/** A webhook that was disabled because of what its receiver did. */
export interface DisabledWebhook {
  readonly tenantId: string;
  readonly id: string;
  readonly reason: string;
}

/**
 * Records results. A result whose claim somebody else has taken over is left alone, and so is one that is recorded already:
 * to record again after an error is safe. Returns the webhooks that this has disabled.
 */
export function recordResults(
  db: Kysely<Database>,
  results: readonly Result[],
  { failingMs }: Pick<WebhooksConfig, "failingMs">,
): Promise<DisabledWebhook[]> {
  return withWorker(db, async (trx) => {
    // Webhooks first, as callers who change one do it.
    await noteReceivers(trx, results);
    await endClaims(trx, results);
    return await disableReceivers(trx, results, failingMs);
  });
}

async function endClaims(trx: WorkerTransaction, results: readonly Result[]): Promise<void> {
  const column = <T>(of: (result: Result) => T) => results.map(of);
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  await sql`
    update deliveries d set
      attempts = case when r.attempt is null then d.attempts else d.attempts || r.attempt end,
      attempt_count = d.attempt_count + (r.attempt is not null)::int,
      status = case when d.due_at is not null or r.status = 'DELIVERED' then r.status else d.status end,
      due_at = case when d.due_at is not null then r.due_at end,
      finished_at = case when d.due_at is null and r.status <> 'DELIVERED' then d.finished_at
        when r.due_at is null then r.at end,
      claim = null
    from unnest(
      ${column(({ delivery }) => delivery.tenantId)}::uuid[], ${column(({ delivery }) => delivery.id)}::uuid[],
      ${column(({ delivery }) => delivery.claim)}::uuid[], ${column(({ status }) => status)}::text[],
      ${column(({ attempt }) => (attempt ? JSON.stringify(attempt) : null))}::jsonb[],
      ${column(({ dueMs }) => time(dueMs))}::timestamptz[], ${column(({ atMs }) => time(atMs))}::timestamptz[]
    ) as r (tenant_id, id, claim, status, attempt, due_at, at)
    where d.tenant_id = r.tenant_id and d.id = r.id and d.claim = r.claim`.execute(trx);
}

/** Notes on webhooks when an attempt last succeeded and failed. */
async function noteReceivers(trx: WorkerTransaction, results: readonly Result[]): Promise<void> {
  const learnt = new Map<string, { tenantId: string; id: string; success?: number; failure?: number }>();
  for (const { delivery, status, attempt, atMs } of results) {
    if (!delivery.webhook || !attempt) continue;
    const { id } = delivery.webhook;
    const known = learnt.get(id) ?? { tenantId: delivery.tenantId, id };
    const outcome = status === "DELIVERED" ? "success" : "failure";
    learnt.set(id, { ...known, [outcome]: Math.max(known[outcome] ?? 0, atMs) });
  }
  if (learnt.size === 0) return;
  // In one order, so that two transactions do not wait for each other.
  const rows = [...learnt.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  await sql`
    with learnt as (
      select * from unnest(
        ${rows.map(({ tenantId }) => tenantId)}::uuid[], ${rows.map(({ id }) => id)}::uuid[],
        ${rows.map(({ success }) => time(success))}::timestamptz[],
        ${rows.map(({ failure }) => time(failure))}::timestamptz[]
      ) as l (tenant_id, id, success, failure)
    ), locked as (
      select w.tenant_id, w.id from webhooks w
      where (w.tenant_id, w.id) in (select tenant_id, id from learnt)
      order by w.tenant_id, w.id for no key update
    )
    update webhooks w set
      last_success_at = greatest(w.last_success_at, l.success),
      last_failure_at = greatest(w.last_failure_at, l.failure),
      failing_since = case when l.success is null then coalesce(w.failing_since, l.failure) end
    from learnt l, locked
    where w.tenant_id = l.tenant_id and w.id = l.id and locked.tenant_id = w.tenant_id and locked.id = w.id`.execute(
    trx,
  );
}

/** Disables webhooks that answered 410 or have failed for too long, and discards what waits for them. */
async function disableReceivers(
  trx: WorkerTransaction,
  results: readonly Result[],
  failingMs: number,
): Promise<DisabledWebhook[]> {
  const failed = results.filter(
    ({ status, attempt, delivery }) => attempt && delivery.webhook && status !== "DELIVERED",
  );
  if (failed.length === 0) return [];
  const gone = failed.filter((result) => result.gone);
  const at = new Date(Math.max(...failed.map(({ atMs }) => atMs))).toISOString();
  const tenants = (some: readonly Result[]) => some.map(({ delivery }) => delivery.tenantId);
  const ids = (some: readonly Result[]) => some.map(({ delivery }) => delivery.webhook?.id);
  const { rows } = await sql<{ tenant_id: string; id: string; disabled_reason: string }>`
    update webhooks set enabled = false, disabled_at = ${at}::timestamptz, updated_at = ${at}::timestamptz,
      disabled_reason = case when (tenant_id, id) in (
        select * from unnest(${tenants(gone)}::uuid[], ${ids(gone)}::uuid[])) then 'GONE' else 'FAILING' end
    where enabled and (
      (tenant_id, id) in (select * from unnest(${tenants(gone)}::uuid[], ${ids(gone)}::uuid[]))
      or ((tenant_id, id) in (select * from unnest(${tenants(failed)}::uuid[], ${ids(failed)}::uuid[]))
        and failing_since <= ${at}::timestamptz - ${failingMs} * interval '1 millisecond'))
    returning tenant_id, id, disabled_reason`.execute(trx);
  if (rows.length === 0) return [];
  await sql`
    update deliveries set status = 'DISCARDED', due_at = null, finished_at = ${at}::timestamptz
    where due_at is not null and (tenant_id, receiver) in (
      select * from unnest(${rows.map((row) => row.tenant_id)}::uuid[], ${rows.map(({ id }) => id)}::uuid[]))`.execute(
    trx,
  );
  return rows.map((row) => ({ tenantId: row.tenant_id, id: row.id, reason: row.disabled_reason }));
}
