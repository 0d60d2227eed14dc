/** Functions and their templates in the database. */
import { type Insertable, type Selectable, sql, type Updateable } from "kysely";
import { laterThan } from "../auth/tenants/store.ts";
import type { FunctionState, FunctionsTable, FunctionTemplatesTable } from "../db/schema/functions.ts";
import type { TenantTransaction } from "../db/tenant.ts";

export type FunctionRow = Selectable<FunctionsTable>;
export type TemplateRow = Selectable<FunctionTemplatesTable>;

/** A function with the template of its new containers. */
export interface FunctionWithTemplate {
  readonly row: FunctionRow;
  readonly template: TemplateRow;
}

/** Makes a function with its first template and its empty log. Rejects with a unique violation when the name is taken. */
export async function insertFunction(
  trx: TenantTransaction,
  row: Insertable<FunctionsTable>,
  template: Insertable<FunctionTemplatesTable>,
): Promise<FunctionWithTemplate> {
  const made = await trx.insertInto("functions").values(row).returningAll().executeTakeFirstOrThrow();
  await trx.insertInto("function_logs").values({ tenant_id: row.tenant_id, function_id: row.id }).execute();
  return { row: made, template: await insertTemplate(trx, template) };
}

export function insertTemplate(
  trx: TenantTransaction,
  template: Insertable<FunctionTemplatesTable>,
): Promise<TemplateRow> {
  return trx.insertInto("function_templates").values(template).returningAll().executeTakeFirstOrThrow();
}

export function getTemplate(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  number: number,
): Promise<TemplateRow> {
  return trx
    .selectFrom("function_templates")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("function_id", "=", functionId)
    .where("number", "=", number)
    .executeTakeFirstOrThrow();
}

/** The function of this name that is not deleted. `lock` keeps it as it is until the transaction ends. */
export async function findFunction(
  trx: TenantTransaction,
  tenantId: string,
  name: string,
  { lock = false } = {},
): Promise<FunctionWithTemplate | undefined> {
  const select = trx
    .selectFrom("functions")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("name", "=", name)
    .where("deleted_at", "is", null);
  const row = await (lock ? select.forNoKeyUpdate() : select).executeTakeFirst();
  return row && { row, template: await getTemplate(trx, tenantId, row.id, row.template) };
}

/** By id, deleted or not. */
export function getFunction(
  trx: TenantTransaction,
  tenantId: string,
  id: string,
): Promise<FunctionRow | undefined> {
  return trx
    .selectFrom("functions")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("id", "=", id)
    .executeTakeFirst();
}

/** The function of this name that is there, otherwise the one deleted last. */
export function findLatest(
  trx: TenantTransaction,
  tenantId: string,
  name: string,
): Promise<FunctionRow | undefined> {
  return trx
    .selectFrom("functions")
    .selectAll()
    .where("tenant_id", "=", tenantId)
    .where("name", "=", name)
    .orderBy(sql`deleted_at is not null`)
    .orderBy("deleted_at", "desc")
    .limit(1)
    .executeTakeFirst();
}

export interface FunctionQuery {
  readonly statuses: readonly FunctionState[];
  readonly namePrefix: string;
}

/** A page by name and id, after a position or after some rows. */
export async function listFunctions(
  trx: TenantTransaction,
  tenantId: string,
  { statuses, namePrefix }: FunctionQuery,
  { limit, skip, after }: { limit: number; skip: number; after: readonly [string, string] | undefined },
): Promise<FunctionWithTemplate[]> {
  let select = trx.selectFrom("functions").selectAll().where("tenant_id", "=", tenantId);
  select =
    statuses.length > 0 ? select.where("status", "in", statuses) : select.where("deleted_at", "is", null);
  if (namePrefix) select = select.where(sql<boolean>`starts_with(name, ${namePrefix})`);
  if (after) select = select.where(sql<boolean>`(name, id) > (${after[0]}, ${after[1]}::uuid)`);
  const rows = await select.orderBy("name").orderBy("id").offset(skip).limit(limit).execute();
  if (rows.length === 0) return [];
  const templates = await trx
    .selectFrom("function_templates")
    .innerJoin("functions", (join) =>
      join
        .onRef("functions.tenant_id", "=", "function_templates.tenant_id")
        .onRef("functions.id", "=", "function_templates.function_id")
        .onRef("functions.template", "=", "function_templates.number"),
    )
    .selectAll("function_templates")
    .where("function_templates.tenant_id", "=", tenantId)
    .where(
      "function_templates.function_id",
      "in",
      rows.map(({ id }) => id),
    )
    .execute();
  const byFunction = new Map(templates.map((template) => [template.function_id, template]));
  return rows.map((row) => ({ row, template: byFunction.get(row.id) as TemplateRow }));
}

/** Changes what is wanted: another generation and etag, and the reconciler looks at once. */
export function changeFunction(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<FunctionRow, "tenant_id" | "id">,
  changes: Updateable<FunctionsTable>,
): Promise<FunctionRow> {
  return trx
    .updateTable("functions")
    .set({
      ...changes,
      generation: sql`generation + 1`,
      wanted_at: laterThan(sql.ref("wanted_at")),
      updated_at: laterThan(sql.ref("updated_at")),
      failures: 0,
      failed_at: null,
      due_at: sql`now()`,
    })
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** Writes what was found. `updated_at` moves only where the status or the available replicas changed. */
export async function writeFindings(
  trx: TenantTransaction,
  { tenant_id, id }: Pick<FunctionRow, "tenant_id" | "id">,
  findings: Updateable<FunctionsTable>,
  isNews: boolean,
): Promise<void> {
  await trx
    .updateTable("functions")
    .set({ ...findings, ...(isNews && { updated_at: laterThan(sql.ref("updated_at")) }) })
    .where("tenant_id", "=", tenant_id)
    .where("id", "=", id)
    .execute();
}

/** What the functions of a tenant that are not deleted may use together, but for one of them. */
export async function usedCapacity(
  trx: TenantTransaction,
  tenantId: string,
  exceptId: string,
): Promise<{ replicas: bigint; cpu: bigint; memory: bigint }> {
  const { rows } = await sql<{ replicas: bigint; cpu: bigint; memory: bigint }>`
    select coalesce(sum(n), 0)::bigint as replicas, coalesce(sum(n * cpu_millicores), 0)::bigint as cpu,
      coalesce(sum(n * memory_bytes), 0)::bigint as memory
    from (
      select f.replicas + f.warm_pool_size as n, cpu_millicores, memory_bytes
      from functions f join function_templates t
        on t.tenant_id = f.tenant_id and t.function_id = f.id and t.number = f.template
      where f.tenant_id = ${tenantId} and f.deleted_at is null and f.id <> ${exceptId}
    ) used`.execute(trx);
  return rows[0] ?? { replicas: 0n, cpu: 0n, memory: 0n };
}
