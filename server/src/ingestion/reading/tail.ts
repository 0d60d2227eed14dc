/**
 * Everybody who watches a tenant's events in this process: one reader for all, and for all with the same filter one message, which
 * is encoded once.
 */
import { create } from "@bufbuild/protobuf";
import type { Kysely, Selectable } from "kysely";
import type { Logger } from "pino";
import type { Bus } from "../../bus/bus.ts";
import type { EventsTable } from "../../db/schema/ingestion.ts";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withTenant } from "../../db/tenant.ts";
import {
  type StoredEvent,
  type WatchEventsResponse,
  WatchEventsResponseSchema,
} from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { type Loop, startLoop } from "../../jobs/loop.ts";
import { eventsChannel } from "../news.ts";
import type { EventMatch } from "./event-filter.ts";
import { storedEvents } from "./stored-events.ts";
import { encodePosition } from "./tail-cursor.ts";
import { currentSnapshot, readTail, type TailPosition } from "./tail-store.ts";
import type { Watcher } from "./watcher.ts";

export interface TailParts {
  readonly db: Kysely<Database>;
  readonly bus: Bus;
  readonly logger: Logger;
}

/** How often the tail is read without a message that there is something. */
const pollMs = 1_000;
/** The longest that a watcher hears nothing. */
const keepAliveMs = 10_000;

/** Watchers with one filter. */
export interface Group {
  /** What their cursors belong to. */
  readonly identity: string;
  readonly match: EventMatch;
  readonly watchers: Set<Watcher>;
  /** When they last heard. */
  heardMs: number;
}

export class TenantTail {
  readonly tenantId: string;
  /** Where the reader stands; those who have come as far may join. Undefined until the first reading. */
  position: TailPosition | undefined;
  readonly begun: Promise<void>;
  readonly #parts: TailParts;
  readonly #groups = new Map<string, Group>();
  readonly #loop: Loop;
  #held = 0;
  readonly #onIdle: () => void;

  constructor(tenantId: string, parts: TailParts, onIdle: () => void) {
    this.tenantId = tenantId;
    this.#parts = parts;
    this.#onIdle = onIdle;
    const begun = Promise.withResolvers<void>();
    this.begun = begun.promise;
    this.#loop = startLoop({
      name: "event tail",
      idleMs: pollMs,
      wakeOn: { bus: parts.bus, channel: eventsChannel(tenantId) },
      logger: parts.logger,
      step: async () => {
        const more = await this.#step();
        begun.resolve();
        return more ? "more" : "idle";
      },
    });
  }

  /** Keeps the reader going until what is returned is called. */
  hold(): () => void {
    this.#held++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      if (--this.#held === 0) this.#onIdle();
    };
  }

  /** Lets the reader read at once. */
  wake(): void {
    this.#loop.wake();
  }

  /** From now on the watcher gets what the reader reads. Its own position must be the reader's. */
  join(watcher: Watcher, identity: string, match: EventMatch): void {
    let group = this.#groups.get(identity);
    if (!group) {
      group = { identity, match, watchers: new Set(), heardMs: performance.now() };
      this.#groups.set(identity, group);
    }
    group.watchers.add(watcher);
  }

  leave(watcher: Watcher, identity: string): void {
    const group = this.#groups.get(identity);
    group?.watchers.delete(watcher);
    if (group?.watchers.size === 0) this.#groups.delete(identity);
  }

  /** Ends all streams. */
  end(error: unknown): void {
    for (const { watchers } of this.#groups.values()) for (const watcher of [...watchers]) watcher.end(error);
  }

  async close(): Promise<void> {
    await this.#loop.close();
  }

  async #step(): Promise<boolean> {
    const { position } = this;
    const { step, events } = await snapshotOf(this.#parts.db, this.tenantId, async (trx) => {
      if (!position)
        return {
          step: { rows: [], position: { seen: await currentSnapshot(trx) }, more: false },
          events: [],
        };
      const read = await readTail(trx, this.tenantId, position);
      return { step: read, events: await storedEvents(trx, this.tenantId, read.rows) };
    });
    this.position = step.position;
    this.#tell(step.rows, events, step.position);
    return step.more;
  }

  #tell(
    rows: readonly Selectable<EventsTable>[],
    events: readonly StoredEvent[],
    position: TailPosition,
  ): void {
    const now = performance.now();
    for (const group of this.#groups.values()) {
      const matching = events.filter((_, index) => group.match(rows[index] as Selectable<EventsTable>));
      if (matching.length === 0 && now - group.heardMs < keepAliveMs) continue;
      group.heardMs = now;
      const message = messageOf(group.identity, matching, position);
      for (const watcher of [...group.watchers]) watcher.push(message);
    }
  }
}

export function messageOf(
  identity: string,
  events: StoredEvent[],
  position: TailPosition,
): WatchEventsResponse {
  return create(WatchEventsResponseSchema, { events, cursor: encodePosition(identity, position) });
}

/** Runs `fn` in a transaction that sees one moment. */
export function snapshotOf<T>(
  db: Kysely<Database>,
  tenantId: string,
  fn: (trx: TenantTransaction) => Promise<T>,
): Promise<T> {
  return withTenant(db, tenantId, fn, { isolationLevel: "repeatable read" });
}
