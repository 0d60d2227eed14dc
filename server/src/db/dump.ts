import { type Kysely, sql } from "kysely";
import { schemaName } from "./roles.ts";
import type { Database } from "./schema.ts";

/**
 * The schema as text, the same on every machine: tables with columns, constraints, indexes, row security, policies and
 * grants, then functions. Made for comparing and reading, not for restoring. The dated partitions are left out, and so
 * is the owner, whose name is the installation's choice.
 */
export async function dumpSchema(db: Kysely<Database>): Promise<string> {
  const parts: string[] = [];
  for (const table of await listTables(db)) {
    parts.push([table.ddl, ...(await listDetails(db, table.oid))].join("\n"));
  }
  parts.push(...(await listFunctions(db)));
  return `${parts.join("\n\n")}\n`;
}

const schema = sql`to_regnamespace(${schemaName})`;

async function listTables(db: Kysely<Database>): Promise<{ oid: number; ddl: string }[]> {
  const { rows } = await sql<{ oid: number; ddl: string }>`
    select c.oid::int as oid, format(
      E'create table %I%s (\n%s\n)%s;', relname,
      case when relispartition
        then ' partition of ' || (select inhparent::regclass from pg_inherits where inhrelid = c.oid) else '' end,
      concat_ws(E',\n', columns, constraints),
      case when relispartition then ' ' || pg_get_expr(relpartbound, c.oid)
        when relkind = 'p' then ' partition by ' || pg_get_partkeydef(c.oid) else '' end
    ) as ddl
    from pg_class c,
    lateral (
      select string_agg(format('  %I %s', attname, concat_ws(' ', format_type(atttypid, atttypmod),
        case when attnotnull then 'not null' end, 'default ' || pg_get_expr(adbin, adrelid))), E',\n' order by attnum)
      from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attrelid = c.oid and attnum > 0 and not attisdropped
    ) as a(columns),
    lateral (
      select string_agg(format('  constraint %I %s', conname, pg_get_constraintdef(oid)), E',\n' order by conname)
      -- Not-null constraints are rows of this catalog from PostgreSQL 18 on only.
      from pg_constraint where conrelid = c.oid and contype <> 'n'
    ) as b(constraints)
    where relnamespace = ${schema} and relkind in ('r', 'p')
      and (not relispartition or relname !~ '_[0-9]{8}$')
    order by relname`.execute(db);
  return rows;
}

async function listDetails(db: Kysely<Database>, table: number): Promise<string[]> {
  const { rows } = await sql<{ line: string }>`
    select line from (
      select 1 as rank, pg_get_indexdef(indexrelid) || ';' as line
      from pg_index where indrelid = ${table} and not exists (select from pg_constraint where conindid = indexrelid)
      union all
      select 2, format('alter table %I %s row level security;', relname, words)
      from pg_class, lateral (values ('enable', relrowsecurity), ('force', relforcerowsecurity)) as v(words, is_on)
      where oid = ${table} and is_on
      union all
      select 3, format('create policy %I on %I as %s for %s%s%s;', policyname, tablename, lower(permissive), lower(cmd),
        E'\n  using ' || qual, E'\n  with check ' || with_check)
      from pg_policies join pg_class on relname = tablename where oid = ${table} and schemaname = ${schemaName}
      union all
      select 4, format('create trigger %s;', pg_get_triggerdef(oid)) from pg_trigger
      where tgrelid = ${table} and not tgisinternal
      union all
      select 5, format('grant %s on %I to %s;', string_agg(lower(privilege_type), ', ' order by privilege_type), relname,
        case grantee when 0 then 'public' else grantee::regrole::text end)
      from pg_class, aclexplode(relacl) where oid = ${table} and grantee <> relowner group by relname, grantee
    ) as details order by rank, line`.execute(db);
  return rows.map((row) => row.line);
}

async function listFunctions(db: Kysely<Database>): Promise<string[]> {
  const { rows } = await sql<{ ddl: string }>`
    select concat_ws(E'\n', rtrim(pg_get_functiondef(p.oid)) || ';', (
      select string_agg(format('grant execute on function %s to %s;', p.oid::regprocedure,
        case grantee when 0 then 'public' else grantee::regrole::text end), E'\n' order by grantee::regrole::text)
      from aclexplode(coalesce(proacl, acldefault('f', proowner))) where grantee <> proowner
    )) as ddl
    from pg_proc p where pronamespace = ${schema}
    order by proname, pg_get_function_identity_arguments(p.oid)`.execute(db);
  return rows.map((row) => row.ddl);
}
