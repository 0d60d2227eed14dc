import { create } from "@bufbuild/protobuf";
import type { Kysely } from "kysely";
import type { ProgressConfig } from "../../config/progress.ts";
import { encodeCursor } from "../../db/cursor.ts";
import type { Database } from "../../db/schema.ts";
import { withTenant } from "../../db/tenant.ts";
import {
  type WatchProgressResponse,
  WatchProgressResponseSchema,
} from "../../gen/pulsewire/progress/v1/progress_pb.js";
import type { Sink } from "../../rpc/push-stream.ts";
import type { DeltaRow } from "../delta.ts";
import { toDelta } from "../messages.ts";
import type { Feed } from "./feed.ts";
import { isInScope, type Scope } from "./scope.ts";
import { type FileSnapshot, loadFile } from "./snapshot.ts";
import { readDeltas } from "./store.ts";
import { type Source, Watcher } from "./watcher.ts";

/** Changes in one message at most. */
export const deltasPerMessage = 500;
/** The longest quiet time. The contract promises 15 s. */
const keepAliveMs = 10_000;
/** How long a reader may take nothing. */
const stuckMs = 10_000;
const checkMs = 1_000;

export interface TopicParts {
  readonly db: Kysely<Database>;
  readonly times: ProgressConfig;
}

/** All who watch the same in this process: they are given the same message objects. */
export class Topic {
  readonly feed: Feed;
  readonly scope: Scope;
  readonly #parts: TopicParts;
  readonly #onEmpty: () => void;
  readonly #watchers = new Set<Watcher>();
  readonly #source: Source;
  readonly #timer: NodeJS.Timeout;
  #quietSince = performance.now();
  #joining = 0;
  #load: Promise<FileSnapshot> | undefined;
  #loading: Promise<unknown> = Promise.resolve();

  constructor(feed: Feed, scope: Scope, parts: TopicParts, onEmpty: () => void) {
    this.feed = feed;
    this.scope = scope;
    this.#parts = parts;
    this.#onEmpty = onEmpty;
    const { times } = parts;
    this.#source = {
      get position() {
        return feed.position;
      },
      recall: (after) => feed.recall(after)?.filter((row) => isInScope(scope, row)),
      read: async (after) => {
        const rows = await this.readDeltas(after);
        return { rows, complete: rows.length < deltasPerMessage };
      },
      toDelta: (row) => toDelta(row, times.stallMs),
      cursorAt: (sequence) => this.cursorAt(sequence),
    };
    this.#timer = setInterval(() => this.#check(), checkMs);
  }

  /** What a cursor of this scope belongs to. */
  get identity(): string {
    const { clientKrn, filename } = this.scope;
    return JSON.stringify(["watch-progress", this.feed.tenantId, clientKrn, filename]);
  }

  cursorAt(sequence: bigint): string {
    return encodeCursor(this.identity, [String(sequence)]);
  }

  readDeltas(after: bigint, until?: bigint): Promise<DeltaRow[]> {
    const { tenantId } = this.feed;
    return withTenant(this.#parts.db, tenantId, (trx) =>
      readDeltas(trx, tenantId, this.scope, after, deltasPerMessage, until),
    );
  }

  /** The watched file now. Those who ask at the same time share one read, which begins after they have asked. */
  loadFile(): Promise<FileSnapshot> {
    if (!this.#load) {
      const load = this.#loading.then(() => {
        this.#load = undefined;
        return loadFile(this, this.#parts);
      });
      this.#load = load;
      this.#loading = load.catch(() => {});
    }
    return this.#load;
  }

  /** Keeps the topic while somebody is about to join. Returns what ends that. */
  hold(): () => void {
    this.#joining++;
    return () => {
      this.#joining--;
      this.#closeIfEmpty();
    };
  }

  /** Joins a reader who has had everything up to a position. */
  join(sink: Sink<WatchProgressResponse>, position: bigint): Watcher {
    const watcher = new Watcher(this.#source, sink, position);
    this.#watchers.add(watcher);
    return watcher;
  }

  leave(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    this.#closeIfEmpty();
  }

  /** Hands changes of this scope on, up to the feed's position. */
  handOn(rows: readonly DeltaRow[]): void {
    this.#quietSince = performance.now();
    for (let start = 0; start < rows.length; start += deltasPerMessage) {
      const part = rows.slice(start, start + deltasPerMessage);
      const isLast = start + deltasPerMessage >= rows.length;
      const position = isLast ? this.feed.position : (part.at(-1)?.sequence ?? this.feed.position);
      const message = create(WatchProgressResponseSchema, {
        deltas: part.map(this.#source.toDelta),
        cursor: this.cursorAt(position),
      });
      for (const watcher of this.#watchers) watcher.push(message, part, position);
    }
  }

  end(error?: unknown): void {
    clearInterval(this.#timer);
    for (const watcher of this.#watchers) watcher.end(error);
  }

  #check(): void {
    const now = performance.now();
    for (const watcher of this.#watchers) watcher.cutIfStuck(now, stuckMs);
    if (now - this.#quietSince < keepAliveMs) return;
    this.#quietSince = now;
    const { position } = this.feed;
    const message = create(WatchProgressResponseSchema, { cursor: this.cursorAt(position) });
    for (const watcher of this.#watchers) watcher.keepAlive(message, position);
  }

  #closeIfEmpty(): void {
    if (this.#watchers.size > 0 || this.#joining > 0) return;
    clearInterval(this.#timer);
    this.#onEmpty();
  }
}
