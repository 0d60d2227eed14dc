import { type Kysely, sql } from "kysely";
import { protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table store_activity (
      tenant_id uuid not null,
      store_id uuid not null,
      last_sample_at timestamptz not null,
      last_received_at timestamptz not null,
      primary key (tenant_id, store_id),
      foreign key (tenant_id, store_id) references stores on delete cascade
    )`.execute(db);
  await protectTenantTable(db, "store_activity", ["select", "insert", "update", "delete"]);
}
