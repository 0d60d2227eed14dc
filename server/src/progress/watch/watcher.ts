import { create } from "@bufbuild/protobuf";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import {
  type ProgressDelta,
  type WatchProgressResponse,
  WatchProgressResponseSchema,
} from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { Sink } from "../../rpc/push-stream.ts";
import type { DeltaRow } from "../delta.ts";

/** What a watcher needs of the feed that it follows. */
export interface Source {
  /** The number of the last change that was handed on. */
  readonly position: bigint;
  /** The changes of the scope after a number that are still in memory; undefined where older ones are asked for. */
  recall(after: bigint): readonly DeltaRow[] | undefined;
  /** The same from the database. */
  read(after: bigint): Promise<{ rows: readonly DeltaRow[]; complete: boolean }>;
  toDelta(row: DeltaRow): ProgressDelta;
  cursorAt(sequence: bigint): string;
}

/**
 * One reader of a feed.
 *
 *   behind → catchUp (from the database, then from memory) → live → the sink is full → blocked → drained → behind …
 *
 * What a blocked reader misses is not kept for it, but read again, so a slow reader holds no memory.
 */
export class Watcher {
  readonly #source: Source;
  readonly #sink: Sink<WatchProgressResponse>;
  #state: "behind" | "live" | "blocked" | "ended" = "behind";
  #blockedSince = 0;
  /** Everything up to here is delivered. */
  #position: bigint;

  constructor(source: Source, sink: Sink<WatchProgressResponse>, position: bigint) {
    this.#source = source;
    this.#sink = sink;
    this.#position = position;
  }

  /** Delivers what there is after the position, and is live then. */
  async catchUp(): Promise<void> {
    while (this.#state === "behind") {
      const recalled = this.#source.recall(this.#position);
      if (recalled) {
        this.#position = max(this.#position, this.#source.position);
        this.#state = "live";
        if (recalled.length > 0) this.#write(recalled);
        return;
      }
      const reached = this.#source.position;
      const { rows, complete } = await this.#source.read(this.#position);
      if (this.#state !== "behind") return;
      const last = rows.at(-1)?.sequence ?? this.#position;
      this.#position = complete ? max(last, reached) : last;
      if (rows.length > 0) this.#write(rows);
    }
  }

  /** Takes a message that is shared with others, with the changes `rows` of the batch that reaches up to `position`. */
  push(message: WatchProgressResponse, rows: readonly DeltaRow[], position: bigint): void {
    if (this.#state !== "live" || this.#position >= position) return;
    const first = rows[0]?.sequence ?? position;
    const isAhead = this.#position >= first;
    const own = isAhead ? rows.filter(({ sequence }) => sequence > this.#position) : rows;
    this.#position = position;
    if (!isAhead) this.#send(message);
    else if (own.length > 0) this.#write(own);
  }

  /** Says that the connection lives and how far it has come. */
  keepAlive(message: WatchProgressResponse, position: bigint): void {
    if (this.#state === "live" && this.#position <= position) this.#send(message);
  }

  /** Ends a reader that has taken nothing for `limitMs`. */
  cutIfStuck(now: number, limitMs: number): void {
    if (this.#state !== "blocked" || now - this.#blockedSince < limitMs) return;
    this.end(
      failure(ErrorReason.SLOW_READER, "this stream was read too slowly; connect again with the last cursor"),
    );
  }

  /** Ends the stream. */
  end(error?: unknown): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#sink.end(error);
  }

  #write(rows: readonly DeltaRow[]): void {
    this.#send(
      create(WatchProgressResponseSchema, {
        deltas: rows.map((row) => this.#source.toDelta(row)),
        cursor: this.#source.cursorAt(this.#position),
      }),
    );
  }

  #send(message: WatchProgressResponse): void {
    if (this.#sink.write(message)) return;
    this.#state = "blocked";
    this.#blockedSince = performance.now();
    this.#sink.onDrain(() => {
      if (this.#state !== "blocked") return;
      this.#state = "behind";
      this.catchUp().catch((error: unknown) => this.end(error));
    });
  }
}

export function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
