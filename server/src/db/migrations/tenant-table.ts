import { type Kysely, sql } from "kysely";
import { appRole } from "../roles.ts";

export type Privilege = "select" | "insert" | "update" | "delete";

/**
 * Puts a tenant table under row security, forced so that it binds the owner too, and gives the service what it needs
 * and no more. Without a tenant set, nothing is visible. Migrations call this right after `create table`.
 */
export async function protectTenantTable(
  db: Kysely<unknown>,
  table: string,
  privileges: readonly Privilege[],
  tenantColumn = "tenant_id",
): Promise<void> {
  const ref = sql.table(table);
  const column = sql.ref(tenantColumn);
  // A transaction-local setting is left behind as an empty string, which is no uuid.
  const tenant = sql`nullif(current_setting('pulsewire.tenant_id', true), '')::uuid`;
  await sql`
    alter table ${ref} enable row level security;
    alter table ${ref} force row level security;
    create policy tenant on ${ref} using (${column} = ${tenant}) with check (${column} = ${tenant});
    grant ${sql.raw(privileges.join(", "))} on ${ref} to ${sql.raw(appRole)};
  `.execute(db);
}

/**
 * Lets workers find and claim the rows of a tenant table across tenants, to be called after `protectTenantTable`: with
 * `withWorker` they see them, change and delete them as far as the table grants it, and make none. For tables that are queues.
 */
export async function protectQueueTable(db: Kysely<unknown>, table: string): Promise<void> {
  const ref = sql.table(table);
  const working = sql`current_setting('pulsewire.worker', true) = 'on'`;
  await sql`
    create policy worker_reads on ${ref} for select using (${working});
    create policy worker_changes on ${ref} for update using (${working}) with check (${working});
    create policy worker_deletes on ${ref} for delete using (${working});
  `.execute(db);
}
