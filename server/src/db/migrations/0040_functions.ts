import { type Kysely, sql } from "kysely";
import { protectQueueTable, protectTenantTable } from "./tenant-table.ts";

export async function up(db: Kysely<unknown>): Promise<void> {
  // What is wanted, and what was found. A queue of the reconciler: `due_at` says when it looks next.
  await sql`
    create table functions (
      tenant_id uuid not null references tenants,
      id uuid not null,
      name text not null,
      namespace text not null,
      created_by uuid not null,
      replicas int not null,
      warm_pool_size int not null,
      invocation_timeout_ms bigint not null,
      retry_policy jsonb not null,
      template int not null,
      generation bigint not null default 1,
      observed_generation bigint not null default 0,
      status text not null check (status in ('PENDING', 'RUNNING', 'DEGRADED', 'FAILED', 'DELETED')),
      status_reason text not null,
      available_replicas int not null default 0,
      runtime text not null default '',
      failures int not null default 0,
      failed_at timestamptz,
      due_at timestamptz default now(),
      created_at timestamptz not null default now(),
      wanted_at timestamptz not null default now(),
      updated_at timestamptz not null default now(),
      deleted_at timestamptz,
      primary key (tenant_id, id)
    );
    create unique index functions_by_name on functions (tenant_id, name) where deleted_at is null;
    create index functions_deleted on functions (tenant_id, name, deleted_at) where deleted_at is not null;
    create index functions_due on functions (tenant_id, due_at) where due_at is not null`.execute(db);
  await protectTenantTable(db, "functions", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "functions");

  // What a container is made from. Never changed: invocations keep what they began with.
  await sql`
    create table function_templates (
      tenant_id uuid not null,
      function_id uuid not null,
      number int not null,
      image text not null,
      command text[] not null,
      invocation_command text[] not null,
      env jsonb not null,
      secret_env_names text[] not null,
      sealed_secrets text,
      has_registry_credentials boolean not null,
      cpu_millicores int not null,
      memory_bytes bigint not null,
      primary key (tenant_id, function_id, number),
      foreign key (tenant_id, function_id) references functions on delete cascade
    )`.execute(db);
  await protectTenantTable(db, "function_templates", ["select", "insert", "delete"]);

  await sql`
    create table invocations (
      tenant_id uuid not null,
      id uuid not null,
      function_id uuid not null,
      template int not null,
      job_name text not null,
      created_by uuid not null,
      phase text not null check (phase in
        ('PENDING', 'STARTING', 'RUNNING', 'RETRYING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'TIMED_OUT')),
      reason text not null default '',
      input json,
      result json,
      result_truncated boolean not null default false,
      exit_code int,
      timeout_ms bigint not null,
      retry_policy jsonb not null,
      attempt int not null default 0,
      pending_ms bigint not null default 0,
      starting_ms bigint not null default 0,
      running_ms bigint not null default 0,
      retrying_ms bigint not null default 0,
      phase_at timestamptz not null default now(),
      due_at timestamptz default now(),
      created_at timestamptz not null default now(),
      started_at timestamptz,
      finished_at timestamptz,
      callback_url text,
      sealed_callback_secret text,
      callback_status text check (callback_status in ('PENDING', 'DELIVERED', 'FAILED')),
      callback_attempts int not null default 0,
      callback_error text not null default '',
      callback_delivered_at timestamptz,
      callback_due_at timestamptz,
      primary key (tenant_id, id),
      unique (tenant_id, function_id, job_name),
      foreign key (tenant_id, function_id) references functions on delete cascade
    );
    create index invocations_of_function on invocations (tenant_id, function_id, id);
    create index invocations_due on invocations (tenant_id, due_at) where due_at is not null;
    create index invocations_callback_due on invocations (tenant_id, callback_due_at) where callback_due_at is not null;
    create index invocations_finished on invocations (tenant_id, finished_at) where finished_at is not null`.execute(
    db,
  );
  await protectTenantTable(db, "invocations", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "invocations");

  await sql`
    create table invocation_attempts (
      tenant_id uuid not null,
      invocation_id uuid not null,
      number int not null,
      phase text not null,
      reason text not null default '',
      exit_code int,
      replica text not null default '',
      started_at timestamptz,
      finished_at timestamptz,
      primary key (tenant_id, invocation_id, number),
      foreign key (tenant_id, invocation_id) references invocations on delete cascade
    )`.execute(db);
  await protectTenantTable(db, "invocation_attempts", ["select", "insert", "update", "delete"]);

  // One log a function. The row is updated with every chunk, so that its lock gives out numbers in the order of commits.
  await sql`
    create table function_logs (
      tenant_id uuid not null,
      function_id uuid not null,
      last_line bigint not null default 0,
      removed_until bigint not null default 0,
      bytes bigint not null default 0,
      ended boolean not null default false,
      primary key (tenant_id, function_id),
      foreign key (tenant_id, function_id) references functions on delete cascade
    )`.execute(db);
  await protectTenantTable(db, "function_logs", ["select", "insert", "update", "delete"]);
  await protectQueueTable(db, "function_logs");

  // How far the log of a container has been read; written together with the chunk, so that nothing is read twice.
  await sql`
    create table log_sources (
      tenant_id uuid not null,
      function_id uuid not null,
      unit_id text not null,
      replica text not null,
      invocation_id uuid,
      attempt int not null,
      position jsonb,
      ended boolean not null default false,
      read_at timestamptz not null default now(),
      primary key (tenant_id, function_id, unit_id),
      foreign key (tenant_id, function_id) references functions on delete cascade
    );
    create index log_sources_of_invocation on log_sources (tenant_id, invocation_id) where invocation_id is not null`.execute(
    db,
  );
  await protectTenantTable(db, "log_sources", ["select", "insert", "update", "delete"]);

  await sql`
    create table log_chunks (
      tenant_id uuid not null,
      function_id uuid not null,
      last_line bigint not null,
      first_line bigint not null,
      first_at timestamptz not null,
      last_at timestamptz not null,
      written_at timestamptz not null default now(),
      replica text not null,
      invocation_id uuid,
      attempt int not null,
      lines bytea not null,
      primary key (tenant_id, function_id, last_line),
      foreign key (tenant_id, function_id) references functions on delete cascade
    );
    create index log_chunks_of_invocation on log_chunks (tenant_id, invocation_id, last_line) where invocation_id is not null;
    alter table log_chunks alter column lines set storage external`.execute(db);
  await protectTenantTable(db, "log_chunks", ["select", "insert", "delete"]);
}
