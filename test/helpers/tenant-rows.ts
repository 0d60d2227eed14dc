import { randomUUID } from "node:crypto";

/** Today in UTC, as the names of partitions have it. */
export const partitionDay = new Date().toISOString().slice(0, 10).replaceAll("-", "");

type Row = Record<string, unknown>;

/**
 * Rows of one tenant for every tenant table, in an order that satisfies the foreign keys. A new table belongs in
 * here: the tenancy test fails until it does.
 */
export function tenantRows(tenant: string, slug: string, keyHash: Buffer): Record<string, Row[]> {
  const id = tenant; // one id for all rows, so that they refer to each other
  const now = new Date();
  return {
    tenants: [{ id, slug, name: "Victim", contact_email: "victim@example.com" }],
    users: [{ tenant_id: tenant, id, email: "victim@example.com", display_name: "Victim", role: "OWNER" }],
    sessions: [{ tenant_id: tenant, id, user_id: id, expires_at: now }],
    identity_providers: [
      {
        tenant_id: tenant,
        id,
        name: "Provider",
        issuer: "https://issuer.example",
        audiences: [],
        allowed_email_domains: [],
        claim_mapping: {},
        jwks_json: "{}",
        algorithms: [],
        create_users: false,
        default_role: "MEMBER",
        highest_role: "MEMBER",
      },
    ],
    external_identities: [
      {
        tenant_id: tenant,
        issuer: "https://issuer.example",
        subject_claim: "sub",
        subject: "victim",
        user_id: id,
        role_mapped: false,
      },
    ],
    stores: [{ tenant_id: tenant, id, name: "Store" }],
    store_activity: [{ tenant_id: tenant, store_id: id, last_sample_at: now, last_received_at: now }],
    api_keys: [{ tenant_id: tenant, id, name: "Key", key_prefix: "pw_", key_hash: keyHash, created_by: id }],
    series: [{ tenant_id: tenant, id, store_id: id, name: "temperature", kind: "gauge" }],
    sample_batches: [{ tenant_id: tenant, min_ms: 0, max_ms: 0, samples: 1, data: Buffer.of(1) }],
    sample_blocks: [
      {
        tenant_id: tenant,
        day: "2001-01-01",
        run: 1,
        first_ref: 1,
        last_ref: 1,
        min_ms: 0,
        max_ms: 0,
        level: 1,
        samples: 1,
        data: Buffer.of(1),
      },
    ],
    deleted_series: [{ tenant_id: tenant, ref: 1 }],
    events: [event(tenant, uuidv7(now)), event(tenant, uuidv7(new Date("2001-01-01T00:00:00Z")))],
    audit_entries: [
      {
        tenant_id: tenant,
        sequence: 1,
        id,
        occurred_at: now,
        actor_type: "SYSTEM",
        email: "",
        api_key_name: "",
        platform_admin: false,
        address: "",
        user_agent: "",
        method: "test",
        resource_type: "",
        resource_id: "",
        outcome: "SUCCEEDED",
        error_reason: "",
        call_id: "",
        trace_id: "",
        details: "{}",
        previous_hash: Buffer.alloc(32),
        hash: Buffer.alloc(32),
      },
    ],
    usage_days: [{ tenant_id: tenant, day: now }],
    usage_increments: [{ tenant_id: tenant, id, events: 1 }],
    usage_active: [{ tenant_id: tenant, day: now, id }],
    functions: [
      {
        tenant_id: tenant,
        id,
        name: "function",
        namespace: `tenant-${id}`,
        created_by: id,
        replicas: 1,
        warm_pool_size: 0,
        invocation_timeout_ms: 1000,
        retry_policy: {},
        template: 1,
        status: "PENDING",
        status_reason: "",
      },
    ],
    function_templates: [
      {
        tenant_id: tenant,
        function_id: id,
        number: 1,
        image: "image",
        command: [],
        invocation_command: [],
        env: {},
        secret_env_names: [],
        has_registry_credentials: false,
        cpu_millicores: 100,
        memory_bytes: 1,
      },
    ],
    invocations: [
      {
        tenant_id: tenant,
        id,
        function_id: id,
        template: 1,
        job_name: "function-invoke-1",
        created_by: id,
        phase: "PENDING",
        timeout_ms: 1000,
        retry_policy: {},
      },
    ],
    invocation_attempts: [{ tenant_id: tenant, invocation_id: id, number: 1, phase: "RUNNING" }],
    function_logs: [{ tenant_id: tenant, function_id: id, last_line: 1 }],
    log_sources: [{ tenant_id: tenant, function_id: id, unit_id: "unit", replica: "function-1", attempt: 0 }],
    log_chunks: [
      {
        tenant_id: tenant,
        function_id: id,
        first_line: 1,
        last_line: 1,
        first_at: now,
        last_at: now,
        replica: "function-1",
        attempt: 0,
        lines: Buffer.alloc(0),
      },
    ],
    webhook_events: [{ tenant_id: tenant, id, type: "function.created", data: "{}" }],
    webhooks: [
      {
        tenant_id: tenant,
        id,
        url: "https://victim.example/hook",
        description: "",
        event_types: ["*"],
        filter: {},
        group_wait_ms: 0,
        enabled: true,
        secret: "sealed",
      },
    ],
    deliveries: [
      {
        tenant_id: tenant,
        id,
        receiver: id,
        channel: "HTTP",
        webhook_id: id,
        destination: "https://victim.example/hook",
        message_id: id,
        event_type: "function.created",
        payload: "{}",
        subject_ids: [],
        alert_rule_ids: [],
        happenings: 1,
        status: "PENDING",
        due_at: now,
        created_at: now,
      },
    ],
    event_batches: [{ tenant_id: tenant, first_id: id, last_id: id, events: 1 }],
    progress_files: [
      {
        tenant_id: tenant,
        id,
        key: id,
        client_krn: `krn:${slug}:client:c1`,
        filename: "file.csv",
        email: "victim@example.com",
        total: 1,
        created_at: now,
        updated_at: now,
      },
    ],
    progress_line_issues: [
      {
        tenant_id: tenant,
        file_id: id,
        kind: 1,
        line: 1,
        id,
        message: "no date",
        raw_line: "a,b",
        reported_at: now,
      },
    ],
    progress_updates: [
      { tenant_id: tenant, file_id: id, key: id, digest: Buffer.alloc(16), received_at: now },
    ],
    progress_feeds: [{ tenant_id: tenant, sequence: 1 }],
    progress_deltas: [
      {
        tenant_id: tenant,
        sequence: 1,
        file_id: id,
        client_krn: `krn:${slug}:client:c1`,
        version: 1,
        done: 1,
        warn: 0,
        failed: 0,
        recent: 1,
        error_count: 0,
        warning_count: 0,
        updated_at: now,
      },
    ],
    event_rollup_state: [{ tenant_id: tenant }],
    event_names: [{ tenant_id: tenant, kind: 1, number: 1, name: "test", seen: now, epoch: 0 }],
    event_rollups: [{ tenant_id: tenant, level: 0, bucket: now, summary: "{}", entries: Buffer.alloc(0) }],
    event_rollup_builds: [{ tenant_id: tenant, level: 1, bucket: now, due_at: now }],
    event_dead_letters: [{ tenant_id: tenant, id, event_row: id, reason: "none", attempts: 1 }],
    event_keys: [
      {
        tenant_id: tenant,
        key: id,
        event_row: id,
        digest: id,
      },
    ],
  };
}

const event = (tenant: string, id: string): Row => ({
  tenant_id: tenant,
  id,
  event_id: "event-1",
  event_type: "test",
  severity: 0,
  priority: 0,
  occurred_at: new Date(),
  encoded: Buffer.alloc(0),
});

function uuidv7(moment: Date): string {
  const hex = moment.getTime().toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7${randomUUID().slice(15)}`;
}
