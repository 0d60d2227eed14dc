import type { Pool } from "pg";
import { globalTables } from "../../server/src/db/protection.ts";

/** All ids, hashes, prefixes of keys and texts with the mark in the tenant's rows and in no one else's. */
export async function secretsOf(superuser: Pool, tenantId: string, mark: string): Promise<string[]> {
  const texts = async (where: string) => {
    const found = new Set<string>();
    for (const { table, column } of await tenantTables(superuser)) {
      const { rows } = await superuser.query(
        `select to_jsonb(t) as row from ${table} t where ${column} ${where} $1`,
        [tenantId],
      );
      for (const { row } of rows) for (const text of leaves(row)) found.add(text);
    }
    return found;
  };
  const others = await texts("<>");
  const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
  const own = [...(await texts("="))].filter(
    (text) =>
      !others.has(text) &&
      (uuid.test(text) || text.startsWith("\\x") || text.startsWith("evp_") || text.includes(mark)),
  );
  return own.flatMap((text) => {
    if (!text.startsWith("\\x")) return [text];
    const bytes = Buffer.from(text.slice(2), "hex");
    return bytes.length < 8 ? [] : [bytes.toString("base64"), bytes.toString("base64url")];
  });
}

function leaves(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(leaves) : [];
}

/** All tables with rows of tenants. */
export async function tenantTables(superuser: Pool): Promise<{ table: string; column: string }[]> {
  const { rows } = await superuser.query<{ table: string }>(
    `select relname as table from pg_class where relnamespace = 'pulsewire'::regnamespace
     and relkind in ('r', 'p') and not relispartition order by 1`,
  );
  return rows
    .filter(({ table }) => !globalTables.includes(table))
    .map(({ table }) => ({ table, column: table === "tenants" ? "id" : "tenant_id" }));
}

/** A digest of each table's rows of the tenant; of the audit log only what stands there up to the entry. */
export async function digests(
  superuser: Pool,
  tenantId: string,
  untilEntry: string,
): Promise<Record<string, string>> {
  const prints: Record<string, string> = {};
  // When a key was last used is written by a timer, some time after the victim has used it.
  // And where the evaluation of alert rules stands.
  const timed = "'last_used_at', 'last_used_address', 'evaluated_until', 'due_at'";
  const row = `(to_jsonb(t) - array[${timed}])::text`;
  const digest = `count(*) || ':' || coalesce(md5(string_agg(${row}, '|' order by ${row})), '')`;
  // Longer periods are made by a timer of those that are there.
  const part: Record<string, string> = {
    audit_entries: `and sequence <= ${untilEntry}`,
    event_rollups: "and level = 0",
    event_rollup_builds: "and false",
    // The calls of the victim itself are counted some time after them.
    usage_increments: "and false",
    usage_days: "and false",
  };
  for (const { table, column } of await tenantTables(superuser)) {
    const until = part[table] ?? "";
    const { rows } = await superuser.query(
      `select ${digest} as print from ${table} t where ${column} = $1 ${until}`,
      [tenantId],
    );
    prints[table] = rows[0].print;
  }
  for (const table of ["signing_keys", "installation_secrets"]) {
    const { rows } = await superuser.query(`select ${digest} as print from ${table} t`);
    prints[table] = rows[0].print;
  }
  return prints;
}

/** The number of the newest entry of the audit log. */
export async function lastEntry(superuser: Pool, tenantId: string): Promise<string> {
  const { rows } = await superuser.query(
    "select max(sequence) as last from audit_entries where tenant_id = $1",
    [tenantId],
  );
  return rows[0].last;
}
