/** Types of columns that tables of several packages have. */
import type { ColumnType, JSONColumnType } from "kysely";

/** Set by the database on insert, may be given. */
export type Timestamp = ColumnType<Date, Date | string | undefined, Date | string>;
export type NullableTimestamp = ColumnType<
  Date | null,
  Date | string | null | undefined,
  Date | string | null
>;
/** Set on insert and never changed. */
export type Fixed<T> = ColumnType<T, T, never>;
export type CreatedAt = ColumnType<Date, Date | string | undefined, never>;
export type Labels = JSONColumnType<Record<string, string>, string | undefined, string>;
