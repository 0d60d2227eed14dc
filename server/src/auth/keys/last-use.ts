import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Database } from "../../db/schema.ts";
import { withTenants } from "../../db/tenant.ts";
import { setLastUses } from "./store.ts";

/** Keeps when and from where keys were used. */
export interface LastUse {
  /** Notes a use, which is written later: costs no query. */
  note(tenantId: string, apiKeyId: string, address: string): void;
  /** Writes what was noted. What cannot be written stays noted. */
  flush(): Promise<void>;
  /** Ends the timer and writes what was noted. */
  close(): Promise<void>;
}

export interface Use {
  readonly apiKeyId: string;
  usedAtMs: number;
  address: string;
}

/** Most tenants in one transaction, and most keys in one statement. */
const batchSizes = { tenants: 100, keys: 1_000 };

/** Writes the last uses of keys every `intervalMs`, in batches by tenant. */
export function createLastUse(db: Kysely<Database>, logger: Logger, intervalMs: number): LastUse {
  let noted = new Map<string, Map<string, Use>>();
  let flushing: Promise<void> | undefined;

  const write = async (): Promise<void> => {
    const batch = noted;
    noted = new Map();
    try {
      // In the same order in every process, so that none waits for another that waits for it.
      for (const tenantIds of chunksOf([...batch.keys()].sort(), batchSizes.tenants)) {
        await writeTenants(db, batch, tenantIds);
        for (const tenantId of tenantIds) batch.delete(tenantId);
      }
    } catch (err) {
      // An earlier use never takes the place of a later one, neither here nor in the database.
      for (const [tenantId, uses] of batch) for (const use of uses.values()) put(tenantId, use, false);
      logger.warn({ err }, "the last use of API keys could not be written; trying again later");
    }
  };
  const flush = (): Promise<void> => {
    flushing ??= write().finally(() => {
      flushing = undefined;
    });
    return flushing;
  };
  const put = (tenantId: string, use: Use, replace: boolean) => {
    let uses = noted.get(tenantId);
    if (!uses) {
      uses = new Map();
      noted.set(tenantId, uses);
    }
    if (replace || !uses.has(use.apiKeyId)) uses.set(use.apiKeyId, use);
  };
  const timer = setInterval(() => void flush(), intervalMs).unref();

  return {
    note(tenantId, apiKeyId, address) {
      const use = noted.get(tenantId)?.get(apiKeyId);
      if (!use) {
        put(tenantId, { apiKeyId, usedAtMs: Date.now(), address }, true);
        return;
      }
      use.usedAtMs = Date.now();
      use.address = address;
    },
    flush,
    async close() {
      clearInterval(timer);
      await flushing;
      await flush();
    },
  };
}

async function writeTenants(
  db: Kysely<Database>,
  batch: ReadonlyMap<string, ReadonlyMap<string, Use>>,
  tenantIds: readonly string[],
): Promise<void> {
  await withTenants(db, async (enter) => {
    for (const tenantId of tenantIds) {
      const uses = [...(batch.get(tenantId)?.values() ?? [])];
      uses.sort((a, b) => (a.apiKeyId < b.apiKeyId ? -1 : 1));
      const trx = await enter(tenantId);
      for (const chunk of chunksOf(uses, batchSizes.keys)) await setLastUses(trx, tenantId, chunk);
    }
  });
}

function chunksOf<T>(items: readonly T[], size: number): T[][] {
  return Array.from({ length: Math.ceil(items.length / size) }, (_, i) =>
    items.slice(i * size, (i + 1) * size),
  );
}
