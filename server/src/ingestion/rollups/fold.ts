/** Adds events up: columns of many events in, minutes out. One statement reads them, whatever their number. */
import { type RawBuilder, sql } from "kysely";
import type { TenantTransaction } from "../../db/tenant.ts";
import { bucketOf } from "./levels.ts";
import { type Kind, kinds, type NameNumbers } from "./names.ts";
import type { RollupState } from "./state.ts";
import { emptyRollup, type Rollup } from "./store.ts";
import { addCount, addMetric, widen } from "./summary.ts";

/** What is folded of events, column by column. */
export interface EventColumns {
  readonly size: number;
  /** Milliseconds since 1970. */
  readonly times: Float64Array;
  readonly types: readonly string[];
  readonly users: readonly (string | null)[];
  readonly sessions: readonly (string | null)[];
  readonly metrics: readonly (Readonly<Record<string, number>> | null)[];
}

interface ColumnsRow {
  times: Buffer | null;
  types: string[] | null;
  users: (string | null)[];
  sessions: (string | null)[];
  metrics: (Record<string, number> | null)[];
}

/** Reads the columns of the tenant's events `e` for which the condition holds. */
export async function readColumns(
  trx: TenantTransaction,
  tenantId: string,
  condition: RawBuilder<unknown>,
): Promise<EventColumns> {
  const { rows } = await sql<ColumnsRow>`
    select string_agg(timestamptz_send(e.occurred_at), ''::bytea) as times, json_agg(e.event_type) as types,
      json_agg(e.user_id) as users, json_agg(e.session_id) as sessions, json_agg(e.metrics) as metrics
    from events e where e.tenant_id = ${tenantId} and ${condition}`.execute(trx);
  const [row] = rows;
  if (!row?.times || !row.types) {
    return { size: 0, times: new Float64Array(), types: [], users: [], sessions: [], metrics: [] };
  }
  const { types, users, sessions, metrics } = row;
  return { size: types.length, times: decodeTimes(row.times), types, users, sessions, metrics };
}

const year2000Ms = Date.UTC(2000, 0, 1);

/** Microseconds since 2000 as int8, which is how the database has them. */
function decodeTimes(bytes: Buffer): Float64Array {
  const times = new Float64Array(bytes.length / 8);
  for (let index = 0; index < times.length; index++) {
    const micros = bytes.readInt32BE(8 * index) * 2 ** 32 + bytes.readUInt32BE(8 * index + 4);
    times[index] = Math.floor(micros / 1_000) + year2000Ms;
  }
  return times;
}

/** Adds events to minutes, by their start; minutes that are not there yet are begun. All ids lie between the two. */
export function foldInto(
  minutes: Map<number, Rollup>,
  columns: EventColumns,
  ids: { readonly firstId: string; readonly lastId: string },
  names: { numberOf(kind: Kind): (name: string) => number },
): void {
  const { size, times, types, users, sessions, metrics } = columns;
  const typeNumber = names.numberOf(kinds.type);
  const userNumber = names.numberOf(kinds.user);
  const sessionNumber = names.numberOf(kinds.session);
  const metricNumber = names.numberOf(kinds.metric);
  let minute = Number.NaN;
  let rollup = emptyRollup();
  for (let index = 0; index < size; index++) {
    const time = times[index] as number;
    const start = bucketOf(0, time);
    if (start !== minute) {
      minute = start;
      rollup = minutes.get(minute) ?? emptyRollup();
      minutes.set(minute, rollup);
      widen(rollup.summary, ids.firstId, ids.lastId);
    }
    const type = typeNumber(types[index] as string);
    const [user, session, values] = [users[index], sessions[index], metrics[index]];
    rollup.entries.add(
      type,
      user ? userNumber(user) : 0,
      session ? sessionNumber(session) : 0,
      1,
      time - minute,
    );
    addCount(rollup.summary, type, 1);
    if (values)
      for (const name in values)
        addMetric(rollup.summary, type, metricNumber(name), values[name] as number, time);
  }
}

/** Numbers for all names of the events; see {@link NameNumbers.resolve}. */
export async function resolveNames(
  trx: TenantTransaction,
  tenantId: string,
  state: RollupState,
  numbers: NameNumbers,
  { size, times, types, users, sessions, metrics }: EventColumns,
) {
  const metricNames = new Set<string>();
  let latestMs = 0;
  for (let index = 0; index < size; index++) {
    for (const name in metrics[index]) metricNames.add(name);
    if ((times[index] as number) > latestMs) latestMs = times[index] as number;
  }
  const present = (values: readonly (string | null)[]) => {
    const set = new Set(values);
    set.delete(null);
    return set as Set<string>;
  };
  const wanted = new Map<Kind, Set<string>>([
    [kinds.type, new Set(types)],
    [kinds.user, present(users)],
    [kinds.session, present(sessions)],
    [kinds.metric, metricNames],
  ]);
  return await numbers.resolve(trx, tenantId, state, wanted, latestMs);
}
