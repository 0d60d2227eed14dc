create table alert_changes (
  tenant_id uuid not null,
  sequence bigint not null,
  alert_id uuid not null,
  store_id uuid not null,
  at timestamp with time zone not null,
  from_state text not null,
  to_state text not null,
  value double precision,
  body json not null,
  constraint alert_changes_pkey PRIMARY KEY (tenant_id, sequence),
  constraint alert_changes_tenant_id_alert_id_fkey FOREIGN KEY (tenant_id, alert_id) REFERENCES alerts(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX alert_changes_alert ON pulsewire.alert_changes USING btree (tenant_id, alert_id, sequence);
alter table alert_changes enable row level security;
alter table alert_changes force row level security;
create policy tenant on alert_changes as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on alert_changes to pulsewire_app;

create table alert_evaluations (
  tenant_id uuid not null,
  sequence bigint not null default 0,
  removed_sequence bigint not null default 0,
  revision bigint not null default 0,
  evaluated_until timestamp with time zone not null default now(),
  due_at timestamp with time zone,
  constraint alert_evaluations_pkey PRIMARY KEY (tenant_id),
  constraint alert_evaluations_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
CREATE INDEX alert_evaluations_due ON pulsewire.alert_evaluations USING btree (tenant_id, due_at) WHERE (due_at IS NOT NULL);
alter table alert_evaluations enable row level security;
alter table alert_evaluations force row level security;
create policy tenant on alert_evaluations as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on alert_evaluations as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on alert_evaluations as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on alert_evaluations as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant insert, select, update on alert_evaluations to pulsewire_app;

create table alert_rules (
  tenant_id uuid not null,
  id uuid not null,
  name text not null,
  store_id uuid,
  metric_name text not null,
  disabled boolean not null default false,
  spec json not null,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint alert_rules_pkey PRIMARY KEY (tenant_id, id),
  constraint alert_rules_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint alert_rules_tenant_id_name_key UNIQUE (tenant_id, name),
  constraint alert_rules_tenant_id_store_id_fkey FOREIGN KEY (tenant_id, store_id) REFERENCES stores(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX alert_rules_store ON pulsewire.alert_rules USING btree (tenant_id, store_id);
alter table alert_rules enable row level security;
alter table alert_rules force row level security;
create policy tenant on alert_rules as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on alert_rules to pulsewire_app;

create table alerts (
  tenant_id uuid not null,
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
  started_at timestamp with time zone not null,
  since timestamp with time zone not null,
  fired_at timestamp with time zone,
  resolved_at timestamp with time zone,
  before_recovery text,
  seen_at timestamp with time zone,
  acknowledged_by text,
  acknowledged_at timestamp with time zone,
  acknowledged_note text,
  acknowledged_until timestamp with time zone,
  muted boolean not null default false,
  version bigint not null,
  opened_sequence bigint not null,
  closed_sequence bigint,
  constraint alerts_pkey PRIMARY KEY (tenant_id, id),
  constraint alerts_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint alerts_tenant_id_store_id_fkey FOREIGN KEY (tenant_id, store_id) REFERENCES stores(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX alerts_resolved ON pulsewire.alerts USING btree (tenant_id, resolved_at) WHERE (state = 'resolved'::text);
CREATE INDEX alerts_store ON pulsewire.alerts USING btree (tenant_id, store_id, id);
CREATE UNIQUE INDEX alerts_open ON pulsewire.alerts USING btree (tenant_id, rule_id, subject_id) WHERE (state <> 'resolved'::text);
alter table alerts enable row level security;
alter table alerts force row level security;
create policy tenant on alerts as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on alerts to pulsewire_app;

create table api_keys (
  tenant_id uuid not null,
  id uuid not null,
  name text not null,
  key_prefix text not null,
  key_hash bytea not null,
  scopes text[] not null default '{}'::text[],
  store_ids uuid[] not null default '{}'::uuid[],
  allowed_ip_ranges text[] not null default '{}'::text[],
  requests_per_minute integer not null default 0,
  created_by uuid,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone,
  last_used_at timestamp with time zone,
  last_used_address text not null default ''::text,
  revoked_at timestamp with time zone,
  rotated_from uuid,
  rotated_to uuid,
  constraint api_keys_pkey PRIMARY KEY (tenant_id, id),
  constraint api_keys_requests_per_minute_check CHECK ((requests_per_minute >= 0)),
  constraint api_keys_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
CREATE UNIQUE INDEX api_keys_key_hash ON pulsewire.api_keys USING btree (key_hash);
alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy lookup on api_keys as permissive for select
  using (key_hash = decode(NULLIF(current_setting('pulsewire.lookup_key_hash'::text, true), ''::text), 'hex'::text));
create policy tenant on api_keys as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on api_keys to pulsewire_app;

create table audit_entries (
  tenant_id uuid not null,
  sequence bigint not null,
  id uuid not null,
  occurred_at timestamp with time zone not null,
  actor_type text not null,
  user_id uuid,
  email text not null,
  api_key_id uuid,
  api_key_name text not null,
  identity_provider_id uuid,
  session_id uuid,
  platform_admin boolean not null,
  address text not null,
  user_agent text not null,
  method text not null,
  resource_type text not null,
  resource_id text not null,
  outcome text not null,
  error_reason text not null,
  call_id text not null,
  trace_id text not null,
  details json not null,
  previous_hash bytea not null,
  hash bytea not null,
  constraint audit_entries_pkey PRIMARY KEY (tenant_id, sequence),
  constraint audit_entries_sequence_check CHECK ((sequence > 0))
);
CREATE INDEX audit_entries_resource ON pulsewire.audit_entries USING btree (tenant_id, resource_id, sequence) WHERE (resource_id <> ''::text);
CREATE INDEX audit_entries_user ON pulsewire.audit_entries USING btree (tenant_id, user_id, sequence) WHERE (user_id IS NOT NULL);
alter table audit_entries enable row level security;
alter table audit_entries force row level security;
create policy tenant on audit_entries as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select on audit_entries to pulsewire_app;

create table deleted_series (
  tenant_id uuid not null,
  ref bigint not null,
  constraint deleted_series_pkey PRIMARY KEY (tenant_id, ref)
);
alter table deleted_series enable row level security;
alter table deleted_series force row level security;
create policy tenant on deleted_series as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on deleted_series as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on deleted_series as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on deleted_series as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select on deleted_series to pulsewire_app;

create table deliveries (
  tenant_id uuid not null,
  id uuid not null,
  receiver uuid not null,
  channel text not null,
  webhook_id uuid,
  destination text not null,
  message_id uuid not null,
  event_type text not null,
  payload json not null,
  subject_ids text[] not null,
  alert_rule_ids uuid[] not null,
  happenings integer not null,
  gathers boolean not null default false,
  status text not null,
  attempts jsonb not null default '[]'::jsonb,
  attempt_count integer not null default 0,
  due_at timestamp with time zone,
  claim uuid,
  created_at timestamp with time zone not null,
  finished_at timestamp with time zone,
  replay_of uuid,
  test boolean not null default false,
  constraint deliveries_channel_check CHECK ((channel = ANY (ARRAY['HTTP'::text, 'EMAIL'::text, 'WHATSAPP'::text]))),
  constraint deliveries_check CHECK (((channel = 'HTTP'::text) = (webhook_id IS NOT NULL))),
  constraint deliveries_check1 CHECK (((due_at IS NULL) = (status = ANY (ARRAY['DELIVERED'::text, 'FAILED'::text, 'DISCARDED'::text])))),
  constraint deliveries_pkey PRIMARY KEY (tenant_id, id),
  constraint deliveries_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'RETRYING'::text, 'DELIVERED'::text, 'FAILED'::text, 'DISCARDED'::text]))),
  constraint deliveries_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
CREATE INDEX deliveries_due ON pulsewire.deliveries USING btree (tenant_id, receiver, due_at) WHERE (due_at IS NOT NULL);
CREATE INDEX deliveries_of_receiver ON pulsewire.deliveries USING btree (tenant_id, receiver, id);
alter table deliveries enable row level security;
alter table deliveries force row level security;
create policy tenant on deliveries as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on deliveries as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on deliveries as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on deliveries as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on deliveries to pulsewire_app;

create table email_code_requests (
  address bytea not null,
  requested_at timestamp with time zone[] not null,
  forget_at timestamp with time zone not null,
  constraint email_code_requests_pkey PRIMARY KEY (address)
);
CREATE INDEX email_code_requests_forget ON pulsewire.email_code_requests USING btree (forget_at);
grant delete, insert, select, update on email_code_requests to pulsewire_app;

create table email_codes (
  address bytea not null,
  purpose text not null,
  code_hash bytea not null,
  attempts integer not null default 0,
  expires_at timestamp with time zone not null,
  constraint email_codes_pkey PRIMARY KEY (address, purpose),
  constraint email_codes_purpose_check CHECK ((purpose = ANY (ARRAY['LOGIN'::text, 'PASSWORD_RECOVERY'::text])))
);
CREATE INDEX email_codes_expiry ON pulsewire.email_codes USING btree (expires_at);
grant delete, insert, select, update on email_codes to pulsewire_app;

create table event_batches (
  tenant_id uuid not null,
  xid xid8 not null default pg_current_xact_id(),
  first_id uuid not null,
  last_id uuid not null,
  events integer not null,
  event_ids uuid[],
  created_at timestamp with time zone not null default now(),
  attempts smallint not null default 0,
  next_attempt_at timestamp with time zone not null default now(),
  claimed_by text,
  claimed_until timestamp with time zone,
  error text,
  processed_at timestamp with time zone,
  constraint event_batches_events_check CHECK ((events > 0)),
  constraint event_batches_pkey PRIMARY KEY (tenant_id, xid, first_id)
);
CREATE INDEX event_batches_created ON pulsewire.event_batches USING btree (tenant_id, created_at);
CREATE INDEX event_batches_pending ON pulsewire.event_batches USING btree (tenant_id, xid) WHERE (processed_at IS NULL);
alter table event_batches enable row level security;
alter table event_batches force row level security;
create policy tenant on event_batches as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on event_batches as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on event_batches as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on event_batches as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on event_batches to pulsewire_app;

create table event_dead_letters (
  tenant_id uuid not null,
  id uuid not null,
  event_row uuid not null,
  reason text not null,
  attempts integer not null,
  failed_at timestamp with time zone not null default now(),
  queued boolean not null default false,
  constraint event_dead_letters_pkey PRIMARY KEY (tenant_id, id),
  constraint event_dead_letters_tenant_id_event_row_key UNIQUE (tenant_id, event_row)
);
alter table event_dead_letters enable row level security;
alter table event_dead_letters force row level security;
create policy tenant on event_dead_letters as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on event_dead_letters as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on event_dead_letters as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on event_dead_letters as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on event_dead_letters to pulsewire_app;

create table event_keys (
  tenant_id uuid not null,
  key uuid not null,
  event_row uuid not null,
  digest uuid,
  constraint event_keys_pkey PRIMARY KEY (tenant_id, key)
) partition by RANGE (key);
alter table event_keys enable row level security;
alter table event_keys force row level security;
create policy tenant on event_keys as permissive for all
  using (tenant_id = ( SELECT (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid AS "nullif"))
  with check (tenant_id = ( SELECT (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid AS "nullif"));
grant delete, insert, select on event_keys to pulsewire_app;

create table event_keys_default partition of event_keys (
  tenant_id uuid not null,
  key uuid not null,
  event_row uuid not null,
  digest uuid,
  constraint event_keys_default_pkey PRIMARY KEY (tenant_id, key)
) DEFAULT;
alter table event_keys_default enable row level security;
alter table event_keys_default force row level security;
create policy sweep on event_keys_default as permissive for all
  using (current_setting('pulsewire.sweeping'::text, true) = 'on'::text);

create table event_keys_hashed partition of event_keys (
  tenant_id uuid not null,
  key uuid not null,
  event_row uuid not null,
  digest uuid,
  constraint event_keys_hashed_pkey PRIMARY KEY (tenant_id, key)
) FOR VALUES FROM ('ff000000-0000-0000-0000-000000000000') TO (MAXVALUE);
alter table event_keys_hashed enable row level security;
alter table event_keys_hashed force row level security;
create policy sweep on event_keys_hashed as permissive for all
  using (current_setting('pulsewire.sweeping'::text, true) = 'on'::text);

create table event_names (
  tenant_id uuid not null,
  kind smallint not null,
  number integer not null,
  name text not null,
  seen date not null,
  epoch integer not null,
  constraint event_names_pkey PRIMARY KEY (tenant_id, kind, number),
  constraint event_names_tenant_id_kind_name_key UNIQUE (tenant_id, kind, name)
);
alter table event_names enable row level security;
alter table event_names force row level security;
create policy tenant on event_names as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on event_names to pulsewire_app;

create table event_rollup_builds (
  tenant_id uuid not null,
  level smallint not null,
  bucket timestamp with time zone not null,
  due_at timestamp with time zone not null,
  constraint event_rollup_builds_pkey PRIMARY KEY (tenant_id, level, bucket)
);
alter table event_rollup_builds enable row level security;
alter table event_rollup_builds force row level security;
create policy tenant on event_rollup_builds as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on event_rollup_builds as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on event_rollup_builds as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on event_rollup_builds as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on event_rollup_builds to pulsewire_app;

create table event_rollup_state (
  tenant_id uuid not null,
  accepted bigint not null default 0,
  last_numbers integer[] not null default '{0,0,0,0}'::integer[],
  names_epoch integer not null default 0,
  trimmed_xid xid8 not null default '0'::xid8,
  dropped_until timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint event_rollup_state_pkey PRIMARY KEY (tenant_id)
);
alter table event_rollup_state enable row level security;
alter table event_rollup_state force row level security;
create policy tenant on event_rollup_state as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on event_rollup_state to pulsewire_app;

create table event_rollups (
  tenant_id uuid not null,
  level smallint not null,
  bucket timestamp with time zone not null,
  version xid8 not null default pg_current_xact_id(),
  summary json not null,
  entries bytea not null,
  constraint event_rollups_pkey PRIMARY KEY (tenant_id, level, bucket)
);
alter table event_rollups enable row level security;
alter table event_rollups force row level security;
create policy tenant on event_rollups as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on event_rollups to pulsewire_app;

create table events (
  tenant_id uuid not null,
  id uuid not null,
  event_id text not null,
  event_type text not null,
  user_id text,
  session_id text,
  severity smallint not null,
  priority smallint not null,
  occurred_at timestamp with time zone not null,
  metrics json,
  source_service text,
  batch xid8 not null default pg_current_xact_id(),
  encoded bytea not null,
  constraint events_pkey PRIMARY KEY (tenant_id, id)
) partition by RANGE (id);
alter table events enable row level security;
alter table events force row level security;
create policy tenant on events as permissive for all
  using (tenant_id = ( SELECT (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid AS "nullif"))
  with check (tenant_id = ( SELECT (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid AS "nullif"));
grant delete, insert, select on events to pulsewire_app;

create table events_default partition of events (
  tenant_id uuid not null,
  id uuid not null,
  event_id text not null,
  event_type text not null,
  user_id text,
  session_id text,
  severity smallint not null,
  priority smallint not null,
  occurred_at timestamp with time zone not null,
  metrics json,
  source_service text,
  batch xid8 not null default pg_current_xact_id(),
  encoded bytea not null,
  constraint events_default_pkey PRIMARY KEY (tenant_id, id)
) DEFAULT;
alter table events_default enable row level security;
alter table events_default force row level security;

create table external_identities (
  tenant_id uuid not null,
  issuer text not null,
  subject_claim text not null,
  subject text not null,
  user_id uuid not null,
  role_mapped boolean not null,
  created_at timestamp with time zone not null default now(),
  constraint external_identities_pkey PRIMARY KEY (tenant_id, issuer, subject_claim, subject),
  constraint external_identities_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id) ON DELETE CASCADE,
  constraint external_identities_tenant_id_user_id_issuer_subject_claim_key UNIQUE (tenant_id, user_id, issuer, subject_claim)
);
alter table external_identities enable row level security;
alter table external_identities force row level security;
create policy tenant on external_identities as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on external_identities to pulsewire_app;

create table function_logs (
  tenant_id uuid not null,
  function_id uuid not null,
  last_line bigint not null default 0,
  removed_until bigint not null default 0,
  bytes bigint not null default 0,
  ended boolean not null default false,
  constraint function_logs_pkey PRIMARY KEY (tenant_id, function_id),
  constraint function_logs_tenant_id_function_id_fkey FOREIGN KEY (tenant_id, function_id) REFERENCES functions(tenant_id, id) ON DELETE CASCADE
);
alter table function_logs enable row level security;
alter table function_logs force row level security;
create policy tenant on function_logs as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on function_logs as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on function_logs as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on function_logs as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on function_logs to pulsewire_app;

create table function_templates (
  tenant_id uuid not null,
  function_id uuid not null,
  number integer not null,
  image text not null,
  command text[] not null,
  invocation_command text[] not null,
  env jsonb not null,
  secret_env_names text[] not null,
  sealed_secrets text,
  has_registry_credentials boolean not null,
  cpu_millicores integer not null,
  memory_bytes bigint not null,
  constraint function_templates_pkey PRIMARY KEY (tenant_id, function_id, number),
  constraint function_templates_tenant_id_function_id_fkey FOREIGN KEY (tenant_id, function_id) REFERENCES functions(tenant_id, id) ON DELETE CASCADE
);
alter table function_templates enable row level security;
alter table function_templates force row level security;
create policy tenant on function_templates as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on function_templates to pulsewire_app;

create table functions (
  tenant_id uuid not null,
  id uuid not null,
  name text not null,
  namespace text not null,
  created_by uuid not null,
  replicas integer not null,
  warm_pool_size integer not null,
  invocation_timeout_ms bigint not null,
  retry_policy jsonb not null,
  template integer not null,
  generation bigint not null default 1,
  observed_generation bigint not null default 0,
  status text not null,
  status_reason text not null,
  available_replicas integer not null default 0,
  runtime text not null default ''::text,
  failures integer not null default 0,
  failed_at timestamp with time zone,
  due_at timestamp with time zone default now(),
  created_at timestamp with time zone not null default now(),
  wanted_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  deleted_at timestamp with time zone,
  constraint functions_pkey PRIMARY KEY (tenant_id, id),
  constraint functions_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'RUNNING'::text, 'DEGRADED'::text, 'FAILED'::text, 'DELETED'::text]))),
  constraint functions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
CREATE INDEX functions_deleted ON pulsewire.functions USING btree (tenant_id, name, deleted_at) WHERE (deleted_at IS NOT NULL);
CREATE INDEX functions_due ON pulsewire.functions USING btree (tenant_id, due_at) WHERE (due_at IS NOT NULL);
CREATE UNIQUE INDEX functions_by_name ON pulsewire.functions USING btree (tenant_id, name) WHERE (deleted_at IS NULL);
alter table functions enable row level security;
alter table functions force row level security;
create policy tenant on functions as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on functions as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on functions as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on functions as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on functions to pulsewire_app;

create table idempotency_keys (
  id bytea not null,
  fingerprint bytea not null,
  attempt uuid not null,
  lease_until timestamp with time zone not null,
  effect_at timestamp with time zone,
  answer bytea,
  expires_at timestamp with time zone not null,
  constraint idempotency_keys_fingerprint_check CHECK ((octet_length(fingerprint) = 32)),
  constraint idempotency_keys_id_check CHECK ((octet_length(id) = 32)),
  constraint idempotency_keys_pkey PRIMARY KEY (id)
);
CREATE INDEX idempotency_keys_expires_at ON pulsewire.idempotency_keys USING btree (expires_at);
grant delete, insert, select, update on idempotency_keys to pulsewire_app;

create table identity_providers (
  tenant_id uuid not null,
  id uuid not null,
  name text not null,
  issuer text not null,
  audiences text[] not null,
  allowed_email_domains text[] not null,
  claim_mapping jsonb not null,
  jwks_uri text,
  jwks_json text,
  algorithms text[] not null,
  create_users boolean not null,
  default_role text not null,
  highest_role text not null,
  created_at timestamp with time zone not null default now(),
  keys_fetched_at timestamp with time zone,
  keys_error text not null default ''::text,
  constraint identity_providers_check CHECK ((num_nonnulls(jwks_uri, jwks_json) = 1)),
  constraint identity_providers_default_role_check CHECK ((default_role = ANY (ARRAY['ADMIN'::text, 'MEMBER'::text, 'VIEWER'::text]))),
  constraint identity_providers_highest_role_check CHECK ((highest_role = ANY (ARRAY['OWNER'::text, 'ADMIN'::text, 'MEMBER'::text, 'VIEWER'::text]))),
  constraint identity_providers_pkey PRIMARY KEY (tenant_id, id),
  constraint identity_providers_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint identity_providers_tenant_id_name_key UNIQUE (tenant_id, name)
);
alter table identity_providers enable row level security;
alter table identity_providers force row level security;
create policy tenant on identity_providers as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on identity_providers to pulsewire_app;

create table installation_secrets (
  name text not null,
  value bytea not null,
  created_at timestamp with time zone not null default now(),
  constraint installation_secrets_pkey PRIMARY KEY (name)
);
grant insert, select on installation_secrets to pulsewire_app;

create table invocation_attempts (
  tenant_id uuid not null,
  invocation_id uuid not null,
  number integer not null,
  phase text not null,
  reason text not null default ''::text,
  exit_code integer,
  replica text not null default ''::text,
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  constraint invocation_attempts_pkey PRIMARY KEY (tenant_id, invocation_id, number),
  constraint invocation_attempts_tenant_id_invocation_id_fkey FOREIGN KEY (tenant_id, invocation_id) REFERENCES invocations(tenant_id, id) ON DELETE CASCADE
);
alter table invocation_attempts enable row level security;
alter table invocation_attempts force row level security;
create policy tenant on invocation_attempts as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on invocation_attempts to pulsewire_app;

create table invocations (
  tenant_id uuid not null,
  id uuid not null,
  function_id uuid not null,
  template integer not null,
  job_name text not null,
  created_by uuid not null,
  phase text not null,
  reason text not null default ''::text,
  input json,
  result json,
  result_truncated boolean not null default false,
  exit_code integer,
  timeout_ms bigint not null,
  retry_policy jsonb not null,
  attempt integer not null default 0,
  pending_ms bigint not null default 0,
  starting_ms bigint not null default 0,
  running_ms bigint not null default 0,
  retrying_ms bigint not null default 0,
  phase_at timestamp with time zone not null default now(),
  due_at timestamp with time zone default now(),
  created_at timestamp with time zone not null default now(),
  started_at timestamp with time zone,
  finished_at timestamp with time zone,
  callback_url text,
  sealed_callback_secret text,
  callback_status text,
  callback_attempts integer not null default 0,
  callback_error text not null default ''::text,
  callback_delivered_at timestamp with time zone,
  callback_due_at timestamp with time zone,
  constraint invocations_callback_status_check CHECK ((callback_status = ANY (ARRAY['PENDING'::text, 'DELIVERED'::text, 'FAILED'::text]))),
  constraint invocations_phase_check CHECK ((phase = ANY (ARRAY['PENDING'::text, 'STARTING'::text, 'RUNNING'::text, 'RETRYING'::text, 'SUCCEEDED'::text, 'FAILED'::text, 'CANCELLED'::text, 'TIMED_OUT'::text]))),
  constraint invocations_pkey PRIMARY KEY (tenant_id, id),
  constraint invocations_tenant_id_function_id_fkey FOREIGN KEY (tenant_id, function_id) REFERENCES functions(tenant_id, id) ON DELETE CASCADE,
  constraint invocations_tenant_id_function_id_job_name_key UNIQUE (tenant_id, function_id, job_name)
);
CREATE INDEX invocations_callback_due ON pulsewire.invocations USING btree (tenant_id, callback_due_at) WHERE (callback_due_at IS NOT NULL);
CREATE INDEX invocations_due ON pulsewire.invocations USING btree (tenant_id, due_at) WHERE (due_at IS NOT NULL);
CREATE INDEX invocations_finished ON pulsewire.invocations USING btree (tenant_id, finished_at) WHERE (finished_at IS NOT NULL);
CREATE INDEX invocations_of_function ON pulsewire.invocations USING btree (tenant_id, function_id, id);
alter table invocations enable row level security;
alter table invocations force row level security;
create policy tenant on invocations as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on invocations as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on invocations as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on invocations as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on invocations to pulsewire_app;

create table leases (
  name text not null,
  holder text not null,
  fence bigint not null,
  expires_at timestamp with time zone not null,
  constraint leases_pkey PRIMARY KEY (name)
);
grant delete, insert, select, update on leases to pulsewire_app;

create table log_chunks (
  tenant_id uuid not null,
  function_id uuid not null,
  last_line bigint not null,
  first_line bigint not null,
  first_at timestamp with time zone not null,
  last_at timestamp with time zone not null,
  written_at timestamp with time zone not null default now(),
  replica text not null,
  invocation_id uuid,
  attempt integer not null,
  lines bytea not null,
  constraint log_chunks_pkey PRIMARY KEY (tenant_id, function_id, last_line),
  constraint log_chunks_tenant_id_function_id_fkey FOREIGN KEY (tenant_id, function_id) REFERENCES functions(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX log_chunks_of_invocation ON pulsewire.log_chunks USING btree (tenant_id, invocation_id, last_line) WHERE (invocation_id IS NOT NULL);
alter table log_chunks enable row level security;
alter table log_chunks force row level security;
create policy tenant on log_chunks as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on log_chunks to pulsewire_app;

create table log_sources (
  tenant_id uuid not null,
  function_id uuid not null,
  unit_id text not null,
  replica text not null,
  invocation_id uuid,
  attempt integer not null,
  "position" jsonb,
  ended boolean not null default false,
  read_at timestamp with time zone not null default now(),
  constraint log_sources_pkey PRIMARY KEY (tenant_id, function_id, unit_id),
  constraint log_sources_tenant_id_function_id_fkey FOREIGN KEY (tenant_id, function_id) REFERENCES functions(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX log_sources_of_invocation ON pulsewire.log_sources USING btree (tenant_id, invocation_id) WHERE (invocation_id IS NOT NULL);
alter table log_sources enable row level security;
alter table log_sources force row level security;
create policy tenant on log_sources as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on log_sources to pulsewire_app;

create table login_failures (
  account bytea not null,
  failures integer not null,
  locked_until timestamp with time zone,
  forget_at timestamp with time zone not null,
  constraint login_failures_pkey PRIMARY KEY (account)
);
CREATE INDEX login_failures_forget ON pulsewire.login_failures USING btree (forget_at);
grant delete, insert, select, update on login_failures to pulsewire_app;

create table progress_deltas (
  tenant_id uuid not null,
  sequence bigint not null,
  file_id uuid not null,
  client_krn text not null,
  version bigint not null,
  done bigint not null,
  warn bigint not null,
  failed bigint not null,
  total bigint,
  recent double precision not null,
  error_count bigint not null,
  warning_count bigint not null,
  updated_at timestamp with time zone not null,
  completed_at timestamp with time zone,
  constraint progress_deltas_pkey PRIMARY KEY (tenant_id, sequence)
);
CREATE INDEX progress_deltas_client ON pulsewire.progress_deltas USING btree (tenant_id, client_krn, sequence);
CREATE INDEX progress_deltas_file ON pulsewire.progress_deltas USING btree (tenant_id, file_id, sequence);
alter table progress_deltas enable row level security;
alter table progress_deltas force row level security;
create policy tenant on progress_deltas as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on progress_deltas to pulsewire_app;

create table progress_feeds (
  tenant_id uuid not null,
  sequence bigint not null,
  pruned bigint not null default 0,
  constraint progress_feeds_pkey PRIMARY KEY (tenant_id),
  constraint progress_feeds_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
alter table progress_feeds enable row level security;
alter table progress_feeds force row level security;
create policy tenant on progress_feeds as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on progress_feeds to pulsewire_app;

create table progress_files (
  tenant_id uuid not null,
  id uuid not null,
  key uuid not null,
  client_krn text not null,
  filename text not null,
  filename_start text not null default "left"(filename, 100),
  email text not null,
  api_key_id uuid,
  done bigint not null default 0,
  warn bigint not null default 0,
  failed bigint not null default 0,
  total bigint,
  version bigint not null default 0,
  sequence bigint not null default 0,
  recent double precision not null default 0,
  error_count bigint not null default 0,
  warning_count bigint not null default 0,
  has_errors boolean not null default false,
  has_update_ids boolean not null default false,
  created_at timestamp with time zone not null,
  updated_at timestamp with time zone not null,
  completed_at timestamp with time zone,
  constraint progress_files_check CHECK (((done >= 0) AND (warn >= 0) AND (failed >= 0) AND (total >= 0))),
  constraint progress_files_pkey PRIMARY KEY (tenant_id, id),
  constraint progress_files_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint progress_files_tenant_id_key_key UNIQUE (tenant_id, key)
);
CREATE INDEX progress_files_client ON pulsewire.progress_files USING btree (tenant_id, client_krn, id);
CREATE INDEX progress_files_email ON pulsewire.progress_files USING btree (tenant_id, email, id);
CREATE INDEX progress_files_errors ON pulsewire.progress_files USING btree (tenant_id, id) WHERE has_errors;
CREATE INDEX progress_files_filename ON pulsewire.progress_files USING btree (tenant_id, filename_start, id);
CREATE INDEX progress_files_open ON pulsewire.progress_files USING btree (tenant_id, id) WHERE (completed_at IS NULL);
CREATE INDEX progress_files_open_client ON pulsewire.progress_files USING btree (tenant_id, client_krn, id) WHERE (completed_at IS NULL);
CREATE INDEX progress_files_update_ids ON pulsewire.progress_files USING btree (tenant_id, completed_at) WHERE has_update_ids;
alter table progress_files enable row level security;
alter table progress_files force row level security;
create policy tenant on progress_files as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on progress_files to pulsewire_app;

create table progress_line_issues (
  tenant_id uuid not null,
  file_id uuid not null,
  kind smallint not null,
  line bigint not null,
  id uuid not null,
  message text not null,
  raw_line text not null,
  reported_at timestamp with time zone not null,
  constraint progress_line_issues_kind_check CHECK ((kind = ANY (ARRAY[1, 2]))),
  constraint progress_line_issues_pkey PRIMARY KEY (tenant_id, file_id, kind, line, id)
);
alter table progress_line_issues enable row level security;
alter table progress_line_issues force row level security;
create policy tenant on progress_line_issues as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select on progress_line_issues to pulsewire_app;

create table progress_set_aside (
  connector text not null,
  "position" text not null,
  reason text not null,
  payload bytea not null,
  set_aside_at timestamp with time zone not null default now(),
  constraint progress_set_aside_pkey PRIMARY KEY (connector, "position")
);
grant delete, insert, select on progress_set_aside to pulsewire_app;

create table progress_updates (
  tenant_id uuid not null,
  file_id uuid not null,
  key uuid not null,
  digest bytea not null,
  received_at timestamp with time zone not null,
  constraint progress_updates_digest_check CHECK ((octet_length(digest) = 16)),
  constraint progress_updates_pkey PRIMARY KEY (tenant_id, file_id, key)
);
alter table progress_updates enable row level security;
alter table progress_updates force row level security;
create policy tenant on progress_updates as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on progress_updates to pulsewire_app;

create table sample_batches (
  tenant_id uuid not null,
  seq bigint not null,
  written_at timestamp with time zone not null default now(),
  min_ms bigint not null,
  max_ms bigint not null,
  samples integer not null,
  data bytea not null,
  constraint sample_batches_pkey PRIMARY KEY (tenant_id, seq)
);
alter table sample_batches enable row level security;
alter table sample_batches force row level security;
create policy tenant on sample_batches as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on sample_batches as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on sample_batches as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on sample_batches as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select on sample_batches to pulsewire_app;

create table sample_blocks (
  tenant_id uuid not null,
  day date not null,
  run bigint not null,
  first_ref bigint not null,
  last_ref bigint not null,
  min_ms bigint not null,
  max_ms bigint not null,
  level smallint not null,
  samples integer not null,
  written_at timestamp with time zone not null default now(),
  data bytea not null,
  rollup bytea,
  constraint sample_blocks_pkey PRIMARY KEY (tenant_id, day, run, first_ref, min_ms)
);
alter table sample_blocks enable row level security;
alter table sample_blocks force row level security;
create policy tenant on sample_blocks as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on sample_blocks as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on sample_blocks as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on sample_blocks as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on sample_blocks to pulsewire_app;

create table schema_migrations (
  name character varying(255) not null,
  "timestamp" character varying(255) not null,
  constraint schema_migrations_pkey PRIMARY KEY (name)
);

create table schema_migrations_lock (
  id character varying(255) not null,
  is_locked integer not null default 0,
  constraint schema_migrations_lock_pkey PRIMARY KEY (id)
);

create table series (
  tenant_id uuid not null,
  id uuid not null,
  store_id uuid not null,
  name text not null,
  labels jsonb not null default '{}'::jsonb,
  kind text not null,
  unit text not null default ''::text,
  created_at timestamp with time zone not null default now(),
  ref bigint not null,
  constraint series_pkey PRIMARY KEY (tenant_id, id),
  constraint series_tenant_id_store_id_fkey FOREIGN KEY (tenant_id, store_id) REFERENCES stores(tenant_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX series_identity ON pulsewire.series USING btree (tenant_id, store_id, name, md5((labels)::text));
CREATE UNIQUE INDEX series_ref ON pulsewire.series USING btree (tenant_id, ref);
alter table series enable row level security;
alter table series force row level security;
create policy tenant on series as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on series to pulsewire_app;

create table sessions (
  tenant_id uuid not null,
  id uuid not null,
  user_id uuid not null,
  family_hash bytea,
  refresh_hash bytea,
  epoch integer not null default 0,
  restricted boolean not null default false,
  created_at timestamp with time zone not null default now(),
  expires_at timestamp with time zone not null,
  constraint sessions_pkey PRIMARY KEY (tenant_id, id),
  constraint sessions_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint sessions_tenant_id_user_id_fkey FOREIGN KEY (tenant_id, user_id) REFERENCES users(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_user ON pulsewire.sessions USING btree (tenant_id, user_id);
alter table sessions enable row level security;
alter table sessions force row level security;
create policy tenant on sessions as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on sessions to pulsewire_app;

create table signing_keys (
  kid text not null,
  algorithm text not null,
  public_jwk jsonb not null,
  private_key text not null,
  signs_from timestamp with time zone not null,
  created_at timestamp with time zone not null default now(),
  constraint signing_keys_pkey PRIMARY KEY (kid)
);
grant delete, insert, select, update on signing_keys to pulsewire_app;

create table silences (
  tenant_id uuid not null,
  id uuid not null,
  store_id uuid,
  rule_id uuid,
  labels jsonb not null,
  starts_at timestamp with time zone not null,
  ends_at timestamp with time zone not null,
  reason text not null,
  created_by text not null,
  created_at timestamp with time zone not null default now(),
  constraint silences_pkey PRIMARY KEY (tenant_id, id),
  constraint silences_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint silences_tenant_id_rule_id_fkey FOREIGN KEY (tenant_id, rule_id) REFERENCES alert_rules(tenant_id, id) ON DELETE CASCADE,
  constraint silences_tenant_id_store_id_fkey FOREIGN KEY (tenant_id, store_id) REFERENCES stores(tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX silences_end ON pulsewire.silences USING btree (tenant_id, ends_at, id);
alter table silences enable row level security;
alter table silences force row level security;
create policy tenant on silences as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select on silences to pulsewire_app;

create table store_activity (
  tenant_id uuid not null,
  store_id uuid not null,
  last_sample_at timestamp with time zone not null,
  last_received_at timestamp with time zone not null,
  heard_since timestamp with time zone not null default now(),
  constraint store_activity_pkey PRIMARY KEY (tenant_id, store_id),
  constraint store_activity_tenant_id_store_id_fkey FOREIGN KEY (tenant_id, store_id) REFERENCES stores(tenant_id, id) ON DELETE CASCADE
);
alter table store_activity enable row level security;
alter table store_activity force row level security;
create policy tenant on store_activity as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on store_activity to pulsewire_app;

create table stores (
  tenant_id uuid not null,
  id uuid not null,
  name text not null,
  description text not null default ''::text,
  expected_interval_ms bigint,
  labels jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint stores_expected_interval_ms_check CHECK ((expected_interval_ms > 0)),
  constraint stores_pkey PRIMARY KEY (tenant_id, id),
  constraint stores_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id),
  constraint stores_tenant_id_name_key UNIQUE (tenant_id, name)
);
alter table stores enable row level security;
alter table stores force row level security;
create policy tenant on stores as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on stores to pulsewire_app;

create table tenants (
  id uuid not null,
  slug text not null,
  name text not null,
  contact_email text not null,
  state text not null default 'ACTIVE'::text,
  limits jsonb not null default '{}'::jsonb,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  constraint tenants_pkey PRIMARY KEY (id),
  constraint tenants_slug_key UNIQUE (slug),
  constraint tenants_state_check CHECK ((state = ANY (ARRAY['ACTIVE'::text, 'SUSPENDED'::text])))
);
alter table tenants enable row level security;
alter table tenants force row level security;
create policy lookup on tenants as permissive for select
  using (slug = NULLIF(current_setting('pulsewire.lookup_slug'::text, true), ''::text));
create policy platform on tenants as permissive for select
  using (current_setting('pulsewire.platform_admin'::text, true) = 'on'::text);
create policy tenant on tenants as permissive for all
  using (id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant insert, select, update on tenants to pulsewire_app;

create table usage_active (
  tenant_id uuid not null,
  day date not null,
  id uuid not null,
  constraint usage_active_pkey PRIMARY KEY (tenant_id, day, id)
);
alter table usage_active enable row level security;
alter table usage_active force row level security;
create policy tenant on usage_active as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on usage_active as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on usage_active as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on usage_active as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select on usage_active to pulsewire_app;

create table usage_days (
  tenant_id uuid not null,
  day date not null,
  events bigint not null default 0,
  samples bigint not null default 0,
  active_stores bigint not null default 0,
  active_series bigint not null default 0,
  invocations bigint not null default 0,
  calls bigint not null default 0,
  cost_micros double precision not null default 0,
  constraint usage_days_pkey PRIMARY KEY (tenant_id, day),
  constraint usage_days_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
alter table usage_days enable row level security;
alter table usage_days force row level security;
create policy tenant on usage_days as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on usage_days to pulsewire_app;

create table usage_increments (
  tenant_id uuid not null,
  id uuid not null,
  day date not null default ((now() AT TIME ZONE 'utc'::text))::date,
  events bigint not null default 0,
  samples bigint not null default 0,
  active_stores bigint not null default 0,
  active_series bigint not null default 0,
  invocations bigint not null default 0,
  calls bigint not null default 0,
  constraint usage_increments_pkey PRIMARY KEY (tenant_id, id)
);
alter table usage_increments enable row level security;
alter table usage_increments force row level security;
create policy tenant on usage_increments as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on usage_increments as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on usage_increments as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on usage_increments as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select on usage_increments to pulsewire_app;

create table users (
  tenant_id uuid not null,
  id uuid not null,
  email text not null,
  display_name text not null,
  password_hash text,
  must_change_password boolean not null default false,
  temporary_password_expires_at timestamp with time zone,
  role text not null,
  state text not null default 'ACTIVE'::text,
  email_verified boolean not null default false,
  external_id text,
  last_login_at timestamp with time zone,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  identity_provider_id uuid,
  email_vouched boolean not null default false,
  constraint users_email_check CHECK ((email = lower(email))),
  constraint users_pkey PRIMARY KEY (tenant_id, id),
  constraint users_role_check CHECK ((role = ANY (ARRAY['OWNER'::text, 'ADMIN'::text, 'MEMBER'::text, 'VIEWER'::text]))),
  constraint users_state_check CHECK ((state = ANY (ARRAY['INVITED'::text, 'ACTIVE'::text, 'DISABLED'::text]))),
  constraint users_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
CREATE INDEX users_by_email ON pulsewire.users USING btree (email, tenant_id);
CREATE UNIQUE INDEX users_email ON pulsewire.users USING btree (tenant_id, email);
alter table users enable row level security;
alter table users force row level security;
create policy lookup on users as permissive for select
  using (email = NULLIF(current_setting('pulsewire.lookup_email'::text, true), ''::text));
create policy tenant on users as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
grant delete, insert, select, update on users to pulsewire_app;

create table webhook_events (
  tenant_id uuid not null,
  id uuid not null,
  type text not null,
  data json not null,
  occurred_at timestamp with time zone not null default now(),
  targets jsonb,
  constraint webhook_events_pkey PRIMARY KEY (tenant_id, id),
  constraint webhook_events_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
alter table webhook_events enable row level security;
alter table webhook_events force row level security;
create policy tenant on webhook_events as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on webhook_events as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on webhook_events as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on webhook_events as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on webhook_events to pulsewire_app;

create table webhooks (
  tenant_id uuid not null,
  id uuid not null,
  url text not null,
  description text not null,
  event_types text[] not null,
  filter jsonb not null,
  group_wait_ms integer not null,
  enabled boolean not null,
  disabled_reason text not null default ''::text,
  disabled_at timestamp with time zone,
  secret text not null,
  previous_secret text,
  previous_secret_expires_at timestamp with time zone,
  last_success_at timestamp with time zone,
  last_failure_at timestamp with time zone,
  failing_since timestamp with time zone,
  created_by uuid,
  created_at timestamp with time zone not null default now(),
  updated_at timestamp with time zone not null default now(),
  version bigint not null default 1,
  constraint webhooks_disabled_reason_check CHECK ((disabled_reason = ANY (ARRAY[''::text, 'BY_CALLER'::text, 'GONE'::text, 'FAILING'::text]))),
  constraint webhooks_pkey PRIMARY KEY (tenant_id, id),
  constraint webhooks_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenants(id)
);
alter table webhooks enable row level security;
alter table webhooks force row level security;
create policy tenant on webhooks as permissive for all
  using (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid)
  with check (tenant_id = (NULLIF(current_setting('pulsewire.tenant_id'::text, true), ''::text))::uuid);
create policy worker_changes on webhooks as permissive for update
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text)
  with check (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_deletes on webhooks as permissive for delete
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
create policy worker_reads on webhooks as permissive for select
  using (current_setting('pulsewire.worker'::text, true) = 'on'::text);
grant delete, insert, select, update on webhooks to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.add_to_progress(tenant uuid, keys uuid[], emails text[], api_keys uuid[], dones bigint[], warns bigint[], faileds bigint[], lines double precision[], moment timestamp with time zone)
 RETURNS TABLE(key uuid, feed_sequence bigint, id uuid, email text, api_key_id uuid, done bigint, warn bigint, failed bigint, total bigint, version bigint, recent double precision, error_count bigint, warning_count bigint, has_errors boolean, has_update_ids boolean, created_at timestamp with time zone, updated_at timestamp with time zone, completed_at timestamp with time zone)
 LANGUAGE plpgsql
 SET search_path TO 'pulsewire', 'pg_temp'
AS $function$
    #variable_conflict use_column
    begin
      perform set_config('pulsewire.tenant_id', tenant::text, true);
      return query
      with change as (
        select * from unnest(keys, emails, api_keys, dones, warns, faileds, lines)
          as t (key, email, api_key_id, done, warn, failed, lines)
      ), file as materialized (
        select f.id, f.key from progress_files f
        where f.tenant_id = tenant and f.completed_at is null and f.key = any(keys)
          and exists (
            select from change c
            where c.key = f.key and c.email = f.email and c.api_key_id is not distinct from f.api_key_id
          )
        order by f.key for update
      ), numbered as materialized (
        select file.*, row_number() over (order by file.key) as place from file
      ), feed as materialized (
        insert into progress_feeds as f (tenant_id, sequence)
        select tenant, count(*) from numbered having count(*) > 0
        on conflict (tenant_id) do update set sequence = f.sequence + excluded.sequence
        returning f.sequence - (select count(*) from numbered) as base
      ), written as (
        update progress_files f set
          version = f.version + 1, done = f.done + c.done, warn = f.warn + c.warn, failed = f.failed + c.failed,
          recent = f.recent * exp(-greatest(0, extract(epoch from moment - f.updated_at)::float8) / 60) + c.lines,
          has_errors = f.has_errors or c.failed > 0,
          updated_at = greatest(moment, f.updated_at), sequence = feed.base + n.place
        from numbered n join change c on c.key = n.key, feed
        where f.tenant_id = tenant and f.id = n.id and c.email = f.email
          and c.api_key_id is not distinct from f.api_key_id
        returning f.*
      ), told as (
        insert into progress_deltas (tenant_id, sequence, file_id, client_krn, version, done, warn, failed, total, recent,
          error_count, warning_count, updated_at, completed_at)
        select tenant, w.sequence, w.id, w.client_krn, w.version, w.done, w.warn, w.failed, w.total, w.recent,
          w.error_count, w.warning_count, w.updated_at, w.completed_at
        from written w
      )
      select w.key, w.sequence, w.id, w.email, w.api_key_id, w.done, w.warn, w.failed, w.total, w.version, w.recent,
        w.error_count, w.warning_count, w.has_errors, w.has_update_ids, w.created_at, w.updated_at, w.completed_at
      from written w;
    end $function$
;
grant execute on function add_to_progress(uuid,uuid[],text[],uuid[],bigint[],bigint[],bigint[],double precision[],timestamp with time zone) to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.drop_event_keys(before timestamp with time zone)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pulsewire', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
    declare
      cutoff uuid := uuidv7_at(before);
      week text;
      dropped integer := 0;
    begin
      -- The contract promises 32 days.
      if before > now() - interval '32 days' then
        raise exception 'event keys are kept for 32 days' using errcode = 'invalid_parameter_value';
      end if;
      perform set_config('pulsewire.sweeping', 'on', true);
      for week in
        select relname from pg_class join pg_inherits on inhrelid = oid
        where inhparent = 'event_keys'::regclass and relname ~ '^event_keys_[0-9]{8}$'
          and to_date(right(relname, 8), 'YYYYMMDD') + 7 <= before
        order by relname
      loop
        execute format('alter table %I no force row level security', week);
        execute format('alter table event_keys detach partition %I', week);
        -- Ids of that week that came later are still needed; without the partition they belong in the default one.
        execute format('insert into event_keys_default select * from %I where event_row >= %L', week, cutoff);
        execute format('drop table %I', week);
        dropped := dropped + 1;
      end loop;
      perform set_config('pulsewire.sweeping', '', true);
      return dropped;
    end $function$
;
grant execute on function drop_event_keys(timestamp with time zone) to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.drop_event_partitions(until_day date)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pulsewire', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
    declare
      child text;
      dropped integer := 0;
    begin
      if until_day > current_date - 1 then
        raise exception 'events younger than a day are not dropped' using errcode = 'invalid_parameter_value';
      end if;
      for child in
        select relname from pg_inherits join pg_class on pg_class.oid = inhrelid
        where inhparent = 'events'::regclass and relname ~ '^events_[0-9]{8}$'
          and to_date(substr(relname, 8), 'YYYYMMDD') < until_day
      loop
        execute format('drop table %I', child);
        dropped := dropped + 1;
      end loop;
      -- What no partition took. Forced row security would hide it even from the owner.
      alter table events_default no force row level security;
      delete from events_default where id < uuidv7_at(until_day);
      alter table events_default force row level security;
      return dropped;
    end $function$
;
grant execute on function drop_event_partitions(date) to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.ensure_partitions(parent text, from_day date, to_day date)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pulsewire', 'pg_temp'
 SET "TimeZone" TO 'UTC'
AS $function$
    declare
      step integer;
      -- What the range is of, and whether its bounds are UUIDs.
      part_key text;
      day date := from_day;
      bounds text[];
      child text;
      rest text := parent || '_default';
      made integer := 0;
    begin
      case parent
        when 'samples' then step := 7; part_key := 'ts';
        when 'events' then step := 1; part_key := 'id';
        when 'event_keys' then step := 7; part_key := 'key';
        else
          raise exception 'no partitioned table: %', parent using errcode = 'invalid_parameter_value';
      end case;
      if step = 7 then
        day := date_trunc('week', from_day);
      end if;
      if to_day - from_day > 400 then
        raise exception 'too many partitions at once' using errcode = 'invalid_parameter_value';
      end if;

      while day <= to_day loop
        child := parent || '_' || to_char(day, 'YYYYMMDD');
        if to_regclass(child) is null then
          perform pg_advisory_xact_lock(hashtextextended('pulsewire.ensure_partitions', 0));
        end if;
        -- Not to_regclass: its cache does not notice what another session made while this one waited for the lock.
        if not exists (select from pg_class where relname = child and relnamespace = 'pulsewire'::regnamespace) then
          bounds := case parent
            when 'samples' then array[day::timestamptz::text, (day + step)::timestamptz::text]
            else array[uuidv7_at(day)::text, uuidv7_at(day + step)::text]
          end;
          execute format('create table %I (like %I including defaults including constraints)', child, parent);
          begin
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
              parent, child, bounds[1], bounds[2]);
          exception when check_violation then
            -- Rows of this range lie in the default partition: they move. Forced row security would hide them even
            -- from the owner, so it is lifted inside this transaction, under the lock that lifting it takes.
            execute format('alter table %I no force row level security', rest);
            execute format(
              'with moved as (delete from %I where %I >= %L and %I < %L returning *) insert into %I select * from moved',
              rest, part_key, bounds[1], part_key, bounds[2], child);
            execute format('alter table %I force row level security', rest);
            execute format('alter table %I attach partition %I for values from (%L) to (%L)',
              parent, child, bounds[1], bounds[2]);
          end;
          execute format('alter table %I enable row level security', child);
          execute format('alter table %I force row level security', child);
          made := made + 1;
        end if;
        day := day + step;
      end loop;
      return made;
    end $function$
;
grant execute on function ensure_partitions(text,date,date) to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.sweep_event_keys(part text, before timestamp with time zone, from_page bigint, pages bigint)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pulsewire', 'pg_temp'
AS $function$
    begin
      if part not in ('event_keys_hashed', 'event_keys_default') or before > now() - interval '32 days' then
        raise exception 'not to be swept' using errcode = 'invalid_parameter_value';
      end if;
      perform set_config('pulsewire.sweeping', 'on', true);
      execute format('delete from %I where ctid >= %L::tid and ctid < %L::tid and event_row < %L', part,
        format('(%s,0)', from_page), format('(%s,0)', from_page + pages), uuidv7_at(before));
      perform set_config('pulsewire.sweeping', '', true);
      if (from_page + pages) * current_setting('block_size')::bigint >= pg_relation_size(part) then
        return null;
      end if;
      return from_page + pages;
    end $function$
;
grant execute on function sweep_event_keys(text,timestamp with time zone,bigint,bigint) to pulsewire_app;

CREATE OR REPLACE FUNCTION pulsewire.uuidv7_at(moment timestamp with time zone)
 RETURNS uuid
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE STRICT
 SET search_path TO 'pg_catalog'
RETURN (rpad(lpad(to_hex(((EXTRACT(epoch FROM moment) * (1000)::numeric))::bigint), 12, '0'::text), 32, '0'::text))::uuid
;
grant execute on function uuidv7_at(timestamp with time zone) to pulsewire_app;
