import { type RawBuilder, sql } from "kysely";
import type { TenantTransaction } from "../db/tenant.ts";
import { Aggregation } from "../gen/pulsewire/metrics/v1/sample_pb.js";

/** Which samples, and how they become points. */
export interface PointQuery {
  /** Series ids, and beside each the number of the group that its samples go to. */
  readonly seriesIds: readonly string[];
  readonly groups: readonly number[];
  readonly start: Date;
  readonly end: Date;
  /** Undefined: raw samples. */
  readonly stepMs: number | undefined;
  readonly aggregation: Exclude<Aggregation, Aggregation.UNSPECIFIED>;
  /** Points to read at most; one more is read, so that the caller sees that there are more. */
  readonly maxPoints: number;
}

/** A point of a group. `ms` is its time, or the start of its step, in milliseconds since 1970. */
export interface Point {
  readonly group: number;
  readonly ms: number;
  readonly value: number;
}

const aggregates: Record<
  Exclude<Aggregation, Aggregation.UNSPECIFIED | Aggregation.RATE>,
  RawBuilder<unknown>
> = {
  [Aggregation.AVG]: sql`avg(value)`,
  [Aggregation.MIN]: sql`min(value)`,
  [Aggregation.MAX]: sql`max(value)`,
  [Aggregation.SUM]: sql`sum(value)`,
  [Aggregation.COUNT]: sql`count(*)::double precision`,
  [Aggregation.LAST]: sql`(array_agg(value order by ts desc))[1]`,
  [Aggregation.P50]: sql`percentile_cont(0.5) within group (order by value)`,
  [Aggregation.P95]: sql`percentile_cont(0.95) within group (order by value)`,
  [Aggregation.P99]: sql`percentile_cont(0.99) within group (order by value)`,
};

/** Reads points, group by group, oldest first. Steps without samples are left out. */
export async function readPoints(
  trx: TenantTransaction,
  tenantId: string,
  query: PointQuery,
): Promise<Point[]> {
  const { rows } = await statementOf(tenantId, query).execute(trx);
  return rows;
}

function statementOf(tenantId: string, query: PointQuery): RawBuilder<Point> {
  const { seriesIds, groups, start, end, stepMs, aggregation, maxPoints } = query;
  const samples = (from: Date) => sql`
    select grp, series_id, ts, value
    from unnest(${[...seriesIds]}::uuid[], ${[...groups]}::int[]) as wanted (series_id, grp)
    join samples using (series_id)
    where tenant_id = ${tenantId} and ts >= ${from} and ts < ${end}`;
  const ms = sql`extract(epoch from ts)::double precision * 1000`;
  if (stepMs === undefined) {
    return sql`
      select grp as "group", ${ms} as ms, value
      from (${samples(start)}) as sample
      order by grp, ts limit ${maxPoints + 1}`;
  }
  const step = sql`floor(${ms} / ${stepMs}::double precision) * ${stepMs}::double precision`;
  if (aggregation !== Aggregation.RATE) {
    return sql`
      select grp as "group", ${step} as ms, ${aggregates[aggregation]} as value
      from (${samples(start)}) as sample
      group by 1, 2 order by 1, 2 limit ${maxPoints + 1}`;
  }
  // One step earlier, so that the first increase has the sample before it; a fall is a reset, counted from 0.
  return sql`
    select grp as "group", ${step} as ms,
      sum(case when previous is null then 0 when value >= previous then value - previous else value end)
        / (${stepMs}::double precision / 1000) as value
    from (
      select *, lag(value) over (partition by series_id order by ts) as previous
      from (${samples(new Date(start.getTime() - stepMs))}) as sample
    ) as increase
    where ts >= ${start}
    group by 1, 2 order by 1, 2 limit ${maxPoints + 1}`;
}
