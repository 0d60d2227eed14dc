import { type Kysely, sql } from "kysely";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table alert_rules (
      tenant_id uuid not null references tenants,
      id uuid not null,
      name text not null,
      store_id uuid,
      metric_name text not null,
      disabled boolean not null default false,
      spec json not null,
      created_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      primary key (tenant_id, id),
      unique (tenant_id, name),
      foreign key (tenant_id, store_id) references stores on delete cascade
    );
    create index alert_rules_store on alert_rules (tenant_id, store_id)`.execute(db);
  await protectTenantTable(db, "alert_rules", ["select", "insert", "update", "delete"]);

  // No foreign key to the rule: alerts stay when it is gone.
  await sql`
    create table alerts (
      tenant_id uuid not null references tenants,
      id uuid not null,
      rule_id uuid not null,
      rule_name text not null,
      store_id uuid not null,
      subject_id uuid not null,
      metric_name text not null,
      labels jsonb not null,
      severity smallint not null,
      state text not null,
      message text not null,
      value double precision,
      started_at timestamptz not null,
      since timestamptz not null,
      fired_at timestamptz,
      resolved_at timestamptz,
      before_recovery text,
      seen_at timestamptz,
      acknowledged_by text,
      acknowledged_at timestamptz,
      acknowledged_note text,
      acknowledged_until timestamptz,
      muted boolean not null default false,
      version bigint not null,
      opened_sequence bigint not null,
      closed_sequence bigint,
      primary key (tenant_id, id),
      foreign key (tenant_id, store_id) references stores on delete cascade
    );
    create unique index alerts_open on alerts (tenant_id, rule_id, subject_id) where state <> 'resolved';
    create index alerts_store on alerts (tenant_id, store_id, id);
    create index alerts_resolved on alerts (tenant_id, resolved_at) where state = 'resolved'`.execute(db);
  await protectTenantTable(db, "alerts", ["select", "insert", "update", "delete"]);

  // Every version of every alert, in the order of their commits.
  await sql`
    create table alert_changes (
      tenant_id uuid not null,
      sequence bigint not null,
      alert_id uuid not null,
      store_id uuid not null,
      at timestamptz not null,
      from_state text not null,
      to_state text not null,
      value double precision,
      body json not null,
      primary key (tenant_id, sequence),
      foreign key (tenant_id, alert_id) references alerts on delete cascade
    );
    create index alert_changes_alert on alert_changes (tenant_id, alert_id, sequence)`.execute(db);
  await protectTenantTable(db, "alert_changes", ["select", "insert", "delete"]);

  await sql`
    create table silences (
      tenant_id uuid not null references tenants,
      id uuid not null,
      store_id uuid,
      rule_id uuid,
      labels jsonb not null,
      starts_at timestamptz not null,
      ends_at timestamptz not null,
      reason text not null,
      created_by text not null,
      created_at timestamptz not null default now(),
      primary key (tenant_id, id),
      foreign key (tenant_id, store_id) references stores on delete cascade,
      foreign key (tenant_id, rule_id) references alert_rules on delete cascade
    );
    create index silences_end on silences (tenant_id, ends_at, id)`.execute(db);
  await protectTenantTable(db, "silences", ["select", "insert", "delete"]);

  // One row for each tenant that has, or had, alert rules. Whoever changes alerts, rules or silences holds it until the commit: so the
  // numbers of changes are in the order of their commits, and the evaluation notices what has changed beside it.
  await sql`
    create table alert_evaluations (
      tenant_id uuid primary key references tenants,
      sequence bigint not null default 0,
      removed_sequence bigint not null default 0,
      revision bigint not null default 0,
      evaluated_until timestamptz not null default now(),
      due_at timestamptz
    );
    create index alert_evaluations_due on alert_evaluations (tenant_id, due_at) where due_at is not null`.execute(
    db,
  );
  await protectTenantTable(db, "alert_evaluations", ["select", "insert", "update"]);
  await protectQueueTable(db, "alert_evaluations");
}
