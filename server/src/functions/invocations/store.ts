/** Invocations in the database. */
import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import type {
  InvocationAttemptsTable,
  InvocationState,
  InvocationsTable,
} from "../../db/schema/functions.ts";
import type { TenantTransaction } from "../../db/tenant.ts";

export type InvocationRow = Selectable<InvocationsTable>;
export type AttemptRow = Selectable<InvocationAttemptsTable>;

/** An invocation with what its message needs besides. */
export interface InvocationDetails {
  readonly row: InvocationRow;
  readonly attempts: readonly AttemptRow[];
  readonly functionName: string;
  readonly namespace: string;
  readonly image: string;
}

const unfinished: readonly InvocationState[] = ["PENDING", "STARTING", "RUNNING", "RETRYING"];

/** Whether a phase is final. */
export function isFinal(phase: InvocationState): boolean {
  return !unfinished.includes(phase);
}

export function insertInvocation(
  trx: TenantTransaction,
  row: Insertable<InvocationsTable>,
): Promise<InvocationRow> {
  return trx.insertInto("invocations").values(row).returningAll().executeTakeFirstOrThrow();
}

/**
 * `<function>-invoke-<unix seconds>`, with a number behind where the second has several. The function must be locked. The second
 * is the id's own: by the time that the lock is had, it may be over.
 */
export async function newJobName(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  functionName: string,
  invocationId: string,
): Promise<string> {
  const second = Math.floor(Number.parseInt(invocationId.slice(0, 13).replace("-", ""), 16) / 1000);
  const name = `${functionName}-invoke-${second}`;
  // Ids begin with their time, so that only those of this second and later ones are looked at.
  const hex = (second * 1000).toString(16).padStart(12, "0");
  const firstId = `${hex.slice(0, 8)}-${hex.slice(8)}-0000-0000-000000000000`;
  const { rows } = await sql<{ n: bigint }>`
    select count(*) as n from invocations
    where tenant_id = ${tenantId} and function_id = ${functionId} and id >= ${firstId} and (job_name = ${name} or starts_with(job_name, ${`${name}-`}))`.execute(
    trx,
  );
  const n = rows[0]?.n ?? 0n;
  return n === 0n ? name : `${name}-${n + 1n}`;
}

/** How many invocations of the tenant have not ended. */
export async function countUnfinished(trx: TenantTransaction, tenantId: string): Promise<bigint> {
  const { rows } = await sql<{ n: bigint }>`
    select count(*) as n from invocations where tenant_id = ${tenantId} and due_at is not null and finished_at is null`.execute(
    trx,
  );
  return rows[0]?.n ?? 0n;
}

/** One invocation; undefined where the tenant has none with this id. */
export async function getInvocation(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<InvocationDetails | undefined> {
  const row = await trx
    .selectFrom("invocations")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
  return row && (await withDetails(trx, tenantId, [row]))[0];
}

/** The phase alone, for those who wait. */
export async function phaseOf(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<InvocationState | undefined> {
  const row = await trx
    .selectFrom("invocations")
    .select("phase")
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
  return row?.phase;
}

export interface InvocationQuery {
  /** Undefined: of all functions. */
  readonly functionIds: readonly string[] | undefined;
  readonly phases: readonly InvocationState[];
  readonly createdFrom: Date | undefined;
  readonly createdUntil: Date | undefined;
}

/** A page, newest first, after an id. */
export async function listInvocations(
  trx: TenantTransaction,
  tenantId: string,
  { functionIds, phases, createdFrom, createdUntil }: InvocationQuery,
  limit: number,
  after: string | undefined,
): Promise<InvocationDetails[]> {
  let select = trx.selectFrom("invocations").selectAll().where("tenant_id", "=", tenantId);
  if (functionIds) select = select.where("function_id", "in", functionIds);
  if (phases.length > 0) select = select.where("phase", "in", phases);
  if (createdFrom) select = select.where("created_at", ">=", createdFrom);
  if (createdUntil) select = select.where("created_at", "<", createdUntil);
  if (after) select = select.where("id", "<", after);
  return withDetails(trx, tenantId, await select.orderBy("id", "desc").limit(limit).execute());
}

/** Ids of the functions that have or had this name. */
export async function functionIdsByName(
  trx: TenantTransaction,
  tenantId: string,
  name: string,
): Promise<string[]> {
  const rows = await trx
    .selectFrom("functions")
    .select("id")
    .where("tenant_id", "=", tenantId)
    .where("name", "=", name)
    .execute();
  return rows.map(({ id }) => id);
}

async function withDetails(
  trx: TenantTransaction,
  tenantId: string,
  rows: readonly InvocationRow[],
): Promise<InvocationDetails[]> {
  if (rows.length === 0) return [];
  const attempts = await trx
    .selectFrom("invocation_attempts")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where(
      "invocation_id",
      "in",
      rows.map(({ id }) => id),
    )
    .orderBy("number")
    .execute();
  const byInvocation = Map.groupBy(attempts, ({ invocation_id }) => invocation_id);
  const functions = await trx
    .selectFrom("functions")
    .innerJoin("function_templates", (join) =>
      join
        .onRef("function_templates.tenant_id", "=", "functions.tenant_id")
        .onRef("function_templates.function_id", "=", "functions.id"),
    )
    .select(["functions.id", "functions.name", "functions.namespace", "image", "number"])
    .where("functions.tenant_id", "=", tenantId)
    .where("functions.id", "in", [...new Set(rows.map((row) => row.function_id))])
    .execute();
  const known = new Map(functions.map((found) => [`${found.id} ${found.number}`, found]));
  return rows.map((row) => {
    const found = known.get(`${row.function_id} ${row.template}`);
    return {
      row,
      attempts: byInvocation.get(row.id) ?? [],
      functionName: found?.name ?? "",
      namespace: found?.namespace ?? "",
      image: found?.image ?? "",
    };
  });
}

/** The column that counts the time of a phase. */
const timeColumn = {
  PENDING: "pending_ms",
  STARTING: "starting_ms",
  RUNNING: "running_ms",
  RETRYING: "retrying_ms",
} as const;

/**
 * Brings an invocation from a phase that is not final into another, and counts the time of the one that ends. Undefined
 * where it is in none of the phases `from` any more: somebody else was first.
 */
export async function enterPhase(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<InvocationRow, "tenant_id" | "id">,
  from: readonly InvocationState[],
  to: InvocationState,
  changes: Updateable<InvocationsTable> = {},
): Promise<InvocationRow | undefined> {
  const elapsed = sql`greatest(0, extract(epoch from now() - phase_at) * 1000)::bigint`;
  const times = Object.fromEntries(
    Object.entries(timeColumn).map(([phase, column]) => [
      column,
      sql<bigint>`${sql.ref(column)} + case when phase = ${phase} then ${elapsed} else 0 end`,
    ]),
  );
  return trx
    .updateTable("invocations")
    .set({
      ...times,
      phase: to,
      phase_at: sql`now()`,
      ...(isFinal(to) && {
        finished_at: sql`now()`,
        callback_due_at: sql`case when callback_url is null then null else now() end`,
      }),
      ...changes,
    })
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .where("phase", "in", from)
    .returningAll()
    .executeTakeFirst();
}

export function writeAttempt(
  trx: TenantTransaction,
  attempt: Insertable<InvocationAttemptsTable>,
): Promise<unknown> {
  const { tenant_id, invocation_id, number, ...values } = attempt;
  return trx
    .insertInto("invocation_attempts")
    .values(attempt)
    .onConflict((conflict) => conflict.columns(["tenant_id", "invocation_id", "number"]).doUpdateSet(values))
    .execute();
}

/**
 * Cancels what has not ended of a function, or one invocation. `due_at` stays: a worker still has to stop the
 * container. Returns the invocations that were cancelled.
 */
export async function cancelUnfinished(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  reason: string,
): Promise<void> {
  const rows = await trx
    .selectFrom("invocations")
    .select(["tenant_id", "id", "attempt"])
    .where("tenant_id", "=", tenantId)
    .where("function_id", "=", functionId)
    .where("phase", "in", unfinished)
    .forUpdate()
    .execute();
  for (const row of rows) await cancel(trx, row, reason);
}

/** Cancels one invocation; undefined where it has ended. */
export async function cancel(
  trx: TenantTransaction,
  row: Pick<InvocationRow, "tenant_id" | "id" | "attempt">,
  reason: string,
): Promise<InvocationRow | undefined> {
  const cancelled = await enterPhase(trx, row, unfinished, "CANCELLED", {
    reason,
    due_at: new Date(),
  });
  if (!cancelled) return undefined;
  await trx
    .updateTable("invocation_attempts")
    .set({ phase: "CANCELLED", reason, finished_at: sql`now()` })
    .where("tenant_id", "=", row.tenant_id)
    .where("invocation_id", "=", row.id)
    .where("phase", "in", ["PENDING", "STARTING", "RUNNING"])
    .execute();
  return cancelled;
}
