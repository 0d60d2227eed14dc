import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import type { Bus } from "../../bus/bus.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { publishSessionChange, readSessionChange, type SessionChange, sessionsChannel } from "./changes.ts";
import { getStanding, type SessionStanding } from "./store.ts";

/** What is known of a session; `standing` is undefined when it has ended. */
export interface KnownSession {
  readonly tenantId: string;
  readonly sessionId: string;
  readonly standing: SessionStanding | undefined;
  readonly loadedAtMs: number;
}

/** What sessions may do now, remembered so that a call costs no query, and forgotten when it changes anywhere. */
export interface Standings {
  find(tenantId: string, sessionId: string): Promise<KnownSession>;
  /** Whether what was found may still be believed: a look at the clock and two maps. */
  isCurrent(known: KnownSession): boolean;
  /**
   * To be called after the commit of what ends sessions or changes their users. Forgets at once here, and in all
   * other processes within a second: where the bus is broken they know it and remember nothing for longer.
   */
  changed(change: SessionChange): Promise<void>;
  close(): void;
}

/** How long a standing is believed while the bus is broken. */
const unheardTtlMs = 900;

export function createStandings(
  db: Kysely<Database>,
  bus: Pick<Bus, "publish" | "subscribe" | "onGap" | "connected">,
  logger: Logger,
  { size, ttlMs }: { readonly size: number; readonly ttlMs: number },
): Standings {
  const known = new LRUCache<string, KnownSession>({ max: size });
  const pending = new Map<string, Promise<KnownSession>>();
  /** Counts what was forgotten: a read that began before is not remembered. */
  let forgotten = 0;

  const forget = (change: SessionChange | undefined) => {
    forgotten++;
    // Who comes now must not share a read that began before the change.
    pending.clear();
    if (!change) known.clear();
    else if (change.sessionId) known.delete(change.sessionId);
    else {
      for (const [id, { tenantId, standing }] of known.entries()) {
        if (tenantId !== change.tenantId) continue;
        if (!change.userId || standing?.user_id === change.userId) known.delete(id);
      }
    }
  };
  const onMessage = (message: string) => forget(readSessionChange(message));
  const subscriptions = [bus.subscribe(sessionsChannel, onMessage), bus.onGap(() => forget(undefined))];

  const load = async (tenantId: string, sessionId: string): Promise<KnownSession> => {
    const before = forgotten;
    const loadedAtMs = Date.now();
    const standing = await withTenant(db, tenantId, (trx) => getStanding(trx, tenantId, sessionId));
    const found = { tenantId, sessionId, standing, loadedAtMs };
    if (forgotten === before) known.set(sessionId, found);
    return found;
  };

  const isFresh = ({ loadedAtMs, standing }: KnownSession) => {
    const now = Date.now();
    if (now - loadedAtMs >= (bus.connected ? ttlMs : unheardTtlMs)) return false;
    return standing === undefined || standing.expires_at.getTime() > now;
  };

  return {
    async find(tenantId, sessionId) {
      const found = known.get(sessionId);
      if (found && found.tenantId === tenantId && isFresh(found)) return found;
      const key = `${tenantId} ${sessionId}`;
      let loading = pending.get(key);
      if (!loading) {
        loading = load(tenantId, sessionId).finally(() => {
          if (pending.get(key) === loading) pending.delete(key);
        });
        pending.set(key, loading);
      }
      return await loading;
    },
    isCurrent: (found) => known.get(found.sessionId) === found && isFresh(found),
    async changed(change) {
      forget(change);
      await publishSessionChange(bus, change).catch((err: unknown) =>
        logger.error({ err, ...change }, "other processes could not be told of ended sessions"),
      );
    },
    close() {
      for (const unsubscribe of subscriptions) unsubscribe();
    },
  };
}
