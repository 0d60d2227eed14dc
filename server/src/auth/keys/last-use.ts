import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
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

/** Most keys in one statement. */
const flushSize = 1_000;

/** Writes the last uses of keys every `intervalMs`, in batches by tenant. */
export function createLastUse(db: Kysely<Database>, logger: Logger, intervalMs: number): LastUse {
  let noted = new Map<string, Map<string, Use>>();
  let flushing: Promise<void> | undefined;

  const write = async (): Promise<void> => {
    const batch = noted;
    noted = new Map();
    for (const [tenantId, uses] of batch) {
      const rows = [...uses.values()].sort((a, b) => (a.apiKeyId < b.apiKeyId ? -1 : 1));
      try {
        for (let i = 0; i < rows.length; i += flushSize) {
          await withTenant(db, tenantId, (trx) => setLastUses(trx, tenantId, rows.slice(i, i + flushSize)));
        }
        batch.delete(tenantId);
      } catch (err) {
        // An earlier use never takes the place of a later one, neither here nor in the database.
        for (const [id, uses] of batch) for (const use of uses.values()) put(id, use, false);
        logger.warn({ err }, "the last use of API keys could not be written; trying again later");
        return;
      }
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
