import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { Bus } from "../../bus/bus.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import { type Loop, startLoop } from "../../jobs/loop.ts";
import type { DeltaRow } from "../delta.ts";
import { type Scope, scopeKey, scopeKeysOf } from "./scope.ts";
import { readDeltas, readEnds } from "./store.ts";
import { Topic, type TopicParts } from "./topic.ts";

/** Changes that one read takes at most. */
const rowsPerRead = 1_000;
/** Changes that are kept in memory for those who come back or catch up. */
const keptRows = 4_096;
/** How often is looked without being told: messages of the bus may be lost. */
const pollMs = 2_000;

/** The bus channel that says that a tenant's feed has gone on, with the number of the last change. */
export const feedChannel = (tenantId: string) => `progress:${tenantId}`;

export interface FeedParts extends TopicParts {
  readonly db: Kysely<Database>;
  readonly bus: Bus;
  readonly logger: Logger;
}

/** The one reader of a tenant's changes in this process, which hands each on to all who watch it. Runs while anybody does. */
export class Feed {
  readonly tenantId: string;
  readonly #parts: FeedParts;
  readonly #topics = new Map<string, Topic>();
  readonly #onEmpty: () => void;
  readonly #loop: Loop;
  readonly #unsubscribe: () => void;
  readonly #begun = Promise.withResolvers<void>();
  /** The changes up to `position`, without a gap. */
  #kept: DeltaRow[] = [];
  /** Changes of this process that come after one that is not known yet, by their numbers. */
  readonly #offered = new Map<bigint, DeltaRow>();
  #position: bigint | undefined;

  constructor(tenantId: string, parts: FeedParts, onEmpty: () => void) {
    this.tenantId = tenantId;
    this.#parts = parts;
    this.#onEmpty = onEmpty;
    const { bus, logger } = parts;
    this.#unsubscribe = bus.subscribe(feedChannel(tenantId), (sequence) => this.tell(BigInt(sequence)));
    this.#loop = startLoop({
      name: "progress feed",
      step: () => this.#step(),
      idleMs: pollMs,
      logger,
    });
  }

  /** Resolves when the feed knows where it is. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  get position(): bigint {
    return this.#position ?? 0n;
  }

  /**
   * Takes changes that this process has made: those that come next need not be read. What is missing before them, as when
   * another process was first, is read, and they with it.
   */
  offer(deltas: readonly DeltaRow[]): void {
    const position = this.#position;
    if (position === undefined) return;
    for (const delta of deltas) if (delta.sequence > position) this.#offered.set(delta.sequence, delta);
    const rows: DeltaRow[] = [];
    for (let next = position + 1n; ; next++) {
      const row = this.#offered.get(next);
      if (!row) break;
      rows.push(row);
      this.#offered.delete(next);
    }
    if (rows.length > 0) this.#handOn(rows);
    if (this.#offered.size > 0) this.#loop.wake();
  }

  /** There is a change with this number. */
  tell(sequence: bigint): void {
    if (this.#position === undefined || sequence > this.#position) this.#loop.wake();
  }

  /** The changes after a number, of all scopes; undefined where they are no longer in memory. */
  recall(after: bigint): readonly DeltaRow[] | undefined {
    const behind = Number(this.position - after);
    if (behind <= 0) return [];
    return behind <= this.#kept.length ? this.#kept.slice(-behind) : undefined;
  }

  topic(scope: Scope): Topic {
    const key = scopeKey(scope);
    let topic = this.#topics.get(key);
    if (!topic) {
      const made = new Topic(this, scope, this.#parts, () => {
        if (this.#topics.get(key) === made) this.#topics.delete(key);
        if (this.#topics.size === 0) this.#onEmpty();
      });
      topic = made;
      this.#topics.set(key, topic);
    }
    return topic;
  }

  /** Ends all who watch. */
  end(error?: unknown): void {
    for (const topic of this.#topics.values()) topic.end(error);
  }

  async close(): Promise<void> {
    this.#unsubscribe();
    this.end();
    await this.#loop.close();
  }

  async #step(): Promise<"more" | "idle"> {
    const { db } = this.#parts;
    const { tenantId } = this;
    const position = this.#position;
    if (position === undefined) {
      this.#position = (await withTenant(db, tenantId, (trx) => readEnds(trx, tenantId))).sequence;
      this.#begun.resolve();
      return "more";
    }
    const rows = await withTenant(db, tenantId, (trx) =>
      readDeltas(trx, tenantId, { clientKrn: "", filename: "" }, position, rowsPerRead),
    );
    // Some may have been offered meanwhile.
    const news = rows.filter(({ sequence }) => sequence > this.position);
    if (news.length > 0) this.#handOn(news);
    for (const sequence of this.#offered.keys())
      if (sequence <= this.position) this.#offered.delete(sequence);
    return rows.length === rowsPerRead ? "more" : "idle";
  }

  #handOn(rows: readonly DeltaRow[]): void {
    this.#position = rows.at(-1)?.sequence as bigint;
    this.#kept = [...this.#kept, ...rows].slice(-keptRows);
    const byTopic = new Map<Topic, DeltaRow[]>();
    for (const row of rows) {
      for (const key of scopeKeysOf(row)) {
        const topic = this.#topics.get(key);
        if (!topic) continue;
        const ofTopic = byTopic.get(topic);
        if (ofTopic) ofTopic.push(row);
        else byTopic.set(topic, [row]);
      }
    }
    for (const [topic, ofTopic] of byTopic) topic.handOn(ofTopic);
  }
}
