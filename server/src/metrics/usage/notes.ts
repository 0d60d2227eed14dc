/**
 * What is used without a transaction of its own: answered calls, and the stores and series that were heard from. Noted in memory
 * and written every `intervalMs`: a crash loses the calls of that time; a store or series is noted again with its next sample.
 */
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { countUsage } from "./count.ts";
import { dayNumber } from "./days.ts";
import { insertActive } from "./store.ts";

export interface UsageNotes {
  /** An answered call. Costs no query. */
  noteCall(tenantId: string): void;
  /** Samples of a series were committed. Costs no query. */
  noteSeries(tenantId: string, storeId: string, seriesId: string): void;
  /** Writes what was noted; what cannot be written stays noted. */
  flush(): Promise<void>;
  /** Ends the timer and flushes. */
  close(): Promise<void>;
}

interface Noted {
  calls: number;
  readonly stores: Set<string>;
  readonly series: Set<string>;
}

/** Most stores and series that are remembered to have been noted today; beyond, they are noted once more in vain. */
const maxRemembered = 500_000;
const maxIdsPerStatement = 10_000;

/** Notes that are written every `intervalMs`. */
export function createUsageNotes(db: Kysely<Database>, intervalMs: number, logger: Logger): UsageNotes {
  let noted = new Map<string, Noted>();
  const remembered = createRemembered();
  let flushing: Promise<void> | undefined;

  const notedOf = (tenantId: string): Noted => {
    let found = noted.get(tenantId);
    if (!found) {
      found = { calls: 0, stores: new Set(), series: new Set() };
      noted.set(tenantId, found);
    }
    return found;
  };
  const write = async () => {
    const batch = noted;
    noted = new Map();
    for (const [tenantId, found] of batch) {
      try {
        await writeNoted(db, tenantId, found);
      } catch (err) {
        const again = notedOf(tenantId);
        again.calls += found.calls;
        for (const id of found.stores) again.stores.add(id);
        for (const id of found.series) again.series.add(id);
        logger.warn({ err, tenantId }, "usage could not be written; trying again");
      }
    }
  };
  const flush = async () => {
    await flushing;
    flushing ??= write().finally(() => {
      flushing = undefined;
    });
    await flushing;
  };
  const timer = setInterval(() => void flush(), intervalMs).unref();

  return {
    noteCall(tenantId) {
      notedOf(tenantId).calls++;
    },
    noteSeries(tenantId, storeId, seriesId) {
      if (!remembered.isNew(tenantId, seriesId)) return;
      const found = notedOf(tenantId);
      found.series.add(seriesId);
      if (remembered.isNew(tenantId, storeId)) found.stores.add(storeId);
    },
    flush,
    async close() {
      clearInterval(timer);
      await flush();
    },
  };
}

/** Ids of tenants that were met today. */
function createRemembered() {
  const byTenant = new Map<string, Set<string>>();
  let count = 0;
  let day = 0;
  return {
    isNew(tenantId: string, id: string): boolean {
      const today = dayNumber(Date.now());
      if (today !== day || count > maxRemembered) {
        byTenant.clear();
        count = 0;
        day = today;
      }
      let known = byTenant.get(tenantId);
      if (!known) {
        known = new Set();
        byTenant.set(tenantId, known);
      }
      if (known.has(id)) return false;
      known.add(id);
      count++;
      return true;
    },
  };
}

async function writeNoted(db: Kysely<Database>, tenantId: string, noted: Noted): Promise<void> {
  await withTenant(db, tenantId, async (trx) => {
    const insertAll = async (ids: readonly string[]) => {
      let made = 0;
      for (let from = 0; from < ids.length; from += maxIdsPerStatement)
        made += await insertActive(trx, tenantId, ids.slice(from, from + maxIdsPerStatement));
      return made;
    };
    await countUsage(trx, tenantId, {
      calls: noted.calls,
      active_stores: await insertAll([...noted.stores]),
      active_series: await insertAll([...noted.series]),
    });
  });
}
