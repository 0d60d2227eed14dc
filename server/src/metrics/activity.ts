/**
 * Tells of new samples after their commit: when each store was last heard from, and a message on the bus. Both are put
 * together over `intervalMs`, so that they cost the same however many samples come.
 */
import { type Kysely, sql } from "kysely";
import type { Logger } from "pino";
import type { Bus } from "../bus/bus.ts";
import type { Database } from "../db/schema.ts";
import { type TenantTransaction, withTenants } from "../db/tenant.ts";
import { defaultExpectedIntervalMs } from "./messages.ts";

/** Messages are ids of tenants that have new samples, with commas between; `tenantsIn` reads them. */
export const samplesChannel = "samples";

/** The tenants that a message names. */
export const tenantsIn = (message: string): string[] => message.split(",");

/** Ids that a message of the bus has room for. */
const tenantsPerMessage = 150;
const intervalMs = 200;

export interface Activity {
  /** Notes samples that were committed; costs no query. `lastSampleMs` is the latest of them, milliseconds since 1970. */
  note(tenantId: string, storeId: string, lastSampleMs: number): void;
  /** Writes and sends what was noted. */
  flush(): Promise<void>;
  /** Ends the timer and flushes. */
  close(): Promise<void>;
}

interface Heard {
  lastSampleMs: number;
  receivedMs: number;
}

export function createActivity(db: Kysely<Database>, bus: Bus, logger: Logger): Activity {
  let noted = new Map<string, Map<string, Heard>>();
  let timer: NodeJS.Timeout | undefined;
  let flushing: Promise<void> | undefined;

  const put = (tenantId: string, storeId: string, heard: Heard) => {
    let stores = noted.get(tenantId);
    if (!stores) {
      stores = new Map();
      noted.set(tenantId, stores);
    }
    const before = stores.get(storeId);
    if (before) {
      before.lastSampleMs = Math.max(before.lastSampleMs, heard.lastSampleMs);
      before.receivedMs = Math.max(before.receivedMs, heard.receivedMs);
    } else {
      stores.set(storeId, heard);
    }
    timer ??= setTimeout(() => void flush(), intervalMs).unref();
  };

  const tell = async (tenantIds: readonly string[]) => {
    for (let from = 0; from < tenantIds.length; from += tenantsPerMessage) {
      await bus.publish(samplesChannel, tenantIds.slice(from, from + tenantsPerMessage).join(","));
    }
  };
  const write = async () => {
    const batch = noted;
    noted = new Map();
    // The same order in every process, so that none waits for another that waits for it.
    const tenantIds = [...batch.keys()].sort();
    if (tenantIds.length === 0) return;
    try {
      // Who waits for samples does not wait for the note as well.
      await Promise.all([
        tell(tenantIds),
        withTenants(db, async (enter) => {
          for (const tenantId of tenantIds) {
            await raiseActivity(await enter(tenantId), tenantId, batch.get(tenantId) ?? new Map());
          }
        }),
      ]);
    } catch (err) {
      for (const [tenantId, stores] of batch) for (const [id, heard] of stores) put(tenantId, id, heard);
      logger.warn({ err }, "the last samples of stores could not be noted; trying again");
    }
  };
  const flush = async (): Promise<void> => {
    clearTimeout(timer);
    timer = undefined;
    await flushing;
    flushing ??= write().finally(() => {
      flushing = undefined;
    });
    await flushing;
  };

  return {
    note(tenantId, storeId, lastSampleMs) {
      put(tenantId, storeId, { lastSampleMs, receivedMs: Date.now() });
    },
    flush,
    async close() {
      await flush();
      clearTimeout(timer);
    },
  };
}

/** Stores that were deleted meanwhile are passed over. */
async function raiseActivity(
  trx: TenantTransaction,
  tenantId: string,
  stores: ReadonlyMap<string, Heard>,
): Promise<void> {
  const ids = [...stores.keys()].sort();
  const column = (name: keyof Heard) => ids.map((id) => stores.get(id)?.[name] ?? 0);
  await sql`
    insert into store_activity as activity (tenant_id, store_id, last_sample_at, last_received_at)
    select ${tenantId}::uuid, heard.id, to_timestamp(sample / 1000), to_timestamp(received / 1000)
    from unnest(${ids}::uuid[], ${column("lastSampleMs")}::double precision[],
      ${column("receivedMs")}::double precision[]) as heard (id, sample, received)
    join stores on stores.tenant_id = ${tenantId} and stores.id = heard.id
    order by heard.id
    on conflict (tenant_id, store_id) do update set
      last_sample_at = greatest(activity.last_sample_at, excluded.last_sample_at),
      last_received_at = greatest(activity.last_received_at, excluded.last_received_at),
      heard_since = case when excluded.last_received_at - activity.last_received_at > (
          select coalesce(expected_interval_ms, ${defaultExpectedIntervalMs}::bigint) * interval '1 millisecond' from stores
          where tenant_id = ${tenantId}::uuid and id = excluded.store_id
        ) then excluded.last_received_at else activity.heard_since end`.execute(trx);
}
