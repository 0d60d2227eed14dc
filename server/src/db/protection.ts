import { type Kysely, sql } from "kysely";
import { schemaName } from "./roles.ts";
import type { Database } from "./schema.ts";

/** The tables that belong to no tenant. Any other table must be under forced row security. */
export const globalTables: readonly string[] = [
  "signing_keys",
  "idempotency_keys",
  "login_failures",
  "installation_secrets",
  "email_codes",
  "email_code_requests",
  "leases",
  "progress_set_aside",
  "schema_migrations",
  "schema_migrations_lock",
];

/**
 * Tables that would let one tenant see another: one that is not in `globalTables` and has no forced row security or
 * no policy; a partition, which is reached through its parent only, and yet grants something; a view that reads with its
 * owner's rights. Returns a line for each.
 */
export async function findUnprotectedTables(db: Kysely<Database>): Promise<string[]> {
  const { rows } = await sql<{
    name: string;
    forced: boolean;
    part: boolean;
    policies: number;
    grants: number;
  }>`
    select relname as name, relispartition as part,
      case relkind when 'v' then coalesce('security_invoker=true' = any (reloptions), false)
        else relrowsecurity and relforcerowsecurity end as forced,
      (select count(*)::int from pg_policy where polrelid = c.oid) + (relkind = 'v')::int as policies,
      (select count(*)::int from aclexplode(relacl) where grantee <> relowner) as grants
    from pg_class c
    where relnamespace = to_regnamespace(${schemaName}) and relkind in ('r', 'p', 'm', 'f', 'v')
    order by relname`.execute(db);
  return rows.flatMap(({ name, forced, part, policies, grants }) => {
    if (globalTables.includes(name)) return [];
    if (!forced) return [`${name}: row security is not enabled and forced (a view: no security_invoker)`];
    if (part && grants > 0) return [`${name}: a partition must grant nothing`];
    if (!part && policies === 0) return [`${name}: no policy`];
    return [];
  });
}
