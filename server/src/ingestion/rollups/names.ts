/**
 * Numbers for names. Rollups hold numbers of four bytes, which are compared and added up faster than texts, and whose
 * texts stand in one place only. Whoever gives numbers holds the lock of the tenant's rollups.
 */
import { sql } from "kysely";
import { LRUCache } from "lru-cache";
import { int2Array, int4Array, textArray } from "../../db/binary-array.ts";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { RollupState } from "./state.ts";

/** Kinds of names, as the table has them. */
export const kinds = { type: 1, user: 2, session: 3, metric: 4 } as const;
export type Kind = (typeof kinds)[keyof typeof kinds];

/** What a process remembers of the names of one tenant. */
interface Known {
  readonly epoch: number;
  readonly day: string;
  /** By kind, from 1. */
  readonly numbers: readonly Map<string, number>[];
}

/** Names of which a process remembers the numbers, of all tenants together, at about 100 bytes each. */
const maxNames = 2_000_000;
const maxTenants = 10_000;

export type NumberOf = (name: string) => number;

/** The numbers that this process remembers. */
export class NameNumbers {
  readonly #tenants = new LRUCache<string, Known>({ max: maxTenants });
  #remembered = 0;

  /**
   * Numbers for all of these names, for the rest of the transaction. `remember` is to be called after its commit, for
   * numbers that are rolled back are given again. `latestMs`: the latest time that the names will be used for.
   */
  async resolve(
    trx: TenantTransaction,
    tenantId: string,
    state: RollupState,
    wanted: ReadonlyMap<Kind, Iterable<string>>,
    latestMs: number,
  ): Promise<{ numberOf(kind: Kind): NumberOf; remember(): void }> {
    const nowMs = Date.now();
    const today = dayOf(nowMs);
    // The names of a rollup must live as long as it does: those of the future are looked up, to note the day.
    const ahead = latestMs > nowMs + dayMs;
    const day = ahead ? dayOf(latestMs) : today;
    const known = ahead ? fresh(state.namesEpoch, day) : this.#known(tenantId, state.namesEpoch, today);
    const found = new Map<Kind, Map<string, number>>();
    for (const [kind, names] of wanted) {
      const missing: string[] = [];
      for (const name of names) if (!known.numbers[kind]?.has(name)) missing.push(name);
      if (missing.length > 0) found.set(kind, await lookUp(trx, tenantId, state, kind, missing, day));
    }
    return {
      numberOf(kind) {
        const [remembered, others] = [known.numbers[kind], found.get(kind)];
        return (name) => {
          const number = remembered?.get(name) ?? others?.get(name);
          if (number === undefined) throw new Error("a name without a number");
          return number;
        };
      },
      remember: () => {
        if (ahead) return;
        for (const [kind, numbers] of found) {
          for (const [name, number] of numbers) known.numbers[kind]?.set(name, number);
          this.#remembered += numbers.size;
        }
        if (this.#remembered > maxNames) {
          this.#tenants.clear();
          this.#remembered = 0;
        }
      },
    };
  }

  /** Begins anew every day, so that each name that is in use is noted as such. */
  #known(tenantId: string, epoch: number, day: string): Known {
    const known = this.#tenants.get(tenantId);
    if (known && known.epoch === epoch && known.day === day) return known;
    const begun = fresh(epoch, day);
    this.#tenants.set(tenantId, begun);
    return begun;
  }
}

const dayMs = 86_400_000;
const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

function fresh(epoch: number, day: string): Known {
  return { epoch, day, numbers: Array.from({ length: 5 }, () => new Map<string, number>()) };
}

async function lookUp(
  trx: TenantTransaction,
  tenantId: string,
  state: RollupState,
  kind: Kind,
  names: readonly string[],
  day: string,
): Promise<Map<string, number>> {
  const { rows } = await sql<{ name: string; number: number; noted: boolean }>`
    select name, number, seen >= ${day}::date and epoch >= ${state.namesEpoch} as noted from event_names
    where tenant_id = ${tenantId} and kind = ${kind} and name = any(${textArray(names)}::text[])`.execute(
    trx,
  );
  const numbers = new Map(rows.map(({ name, number }) => [name, number]));
  const stale = rows.filter(({ noted }) => !noted).map(({ number }) => number);
  if (stale.length > 0) {
    await sql`
      update event_names set seen = greatest(seen, ${day}::date), epoch = ${state.namesEpoch}
      where tenant_id = ${tenantId} and kind = ${kind} and number = any(${stale}::integer[])`.execute(trx);
  }
  const added = names.filter((name) => !numbers.has(name));
  if (added.length > 0) {
    const last = state.lastNumbers[kind - 1] ?? 0;
    await sql`
      insert into event_names (tenant_id, kind, number, name, seen, epoch)
      select ${tenantId}::uuid, ${kind}, ${last} + i, name, ${day}::date, ${state.namesEpoch}
      from unnest(${textArray(added)}::text[]) with ordinality as t (name, i)`.execute(trx);
    for (const [index, name] of added.entries()) numbers.set(name, last + 1 + index);
    state.lastNumbers[kind - 1] = last + added.length;
  }
  return numbers;
}

/** The names of numbers of several kinds. */
export async function namesOf(
  trx: TenantTransaction,
  tenantId: string,
  wanted: readonly (readonly [Kind, readonly number[]])[],
): Promise<Map<Kind, Map<number, string>>> {
  const pairs = wanted.flatMap(([kind, numbers]) => numbers.map((number) => ({ kind, number })));
  const found = new Map<Kind, Map<number, string>>(wanted.map(([kind]) => [kind, new Map()]));
  const { rows } = await sql<{ kind: Kind; number: number; name: string }>`/* kept as read_event_names */
    select n.kind, n.number, n.name
    from unnest(${int2Array(pairs.map(({ kind }) => kind))}::smallint[],
      ${int4Array(pairs.map(({ number }) => number))}::integer[]) as wanted (kind, number)
    join event_names n on n.tenant_id = ${tenantId}::uuid and n.kind = wanted.kind and n.number = wanted.number`.execute(
    trx,
  );
  for (const { kind, number, name } of rows) found.get(kind)?.set(number, name);
  return found;
}
