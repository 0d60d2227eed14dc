import type { Backlog, BacklogListener } from "../backlog.ts";
import type { PulsewireError } from "../errors.ts";
import type { FinalOutcome } from "../outcome.ts";
import type { Item } from "../queue.ts";
import type { Lane } from "./lane.ts";
import type { Segment } from "./segment.ts";
import type { Spool } from "./spool.ts";

/** How items are written, and read back. */
export interface Codec<T> {
  encode(item: T): Uint8Array;
  /** Keeps none of the bytes, which are good for this call only. @throws where they were written by another version */
  decode(bytes: Buffer, start: number, end: number): T;
}

/** What is kept in a spool: a lane for urgent items where there are any, and one for all others. */
export class SpoolBacklog<T extends Item> implements Backlog<T> {
  readonly last: number;
  readonly #isUrgent: (item: T) => boolean;
  readonly #codec: Codec<T>;
  readonly #spool: Spool;
  readonly #normal: Lane;
  readonly #urgent: Lane | undefined;
  #listener: BacklogListener<T> | undefined;

  /** @param isUrgent default: nothing is */
  constructor(spool: Spool, name: string, codec: Codec<T>, isUrgent?: (item: T) => boolean) {
    this.#codec = codec;
    this.#spool = spool;
    this.#isUrgent = isUrgent ?? (() => false);
    const listener = {
      onLost: (count: number, reason: string, first: number, last: number) =>
        this.#listener?.onLost(count, reason, first, last),
      onUnwritten: (sequence: number, payload: Buffer) => {
        const item = codec.decode(payload, 0, payload.length);
        item.sequence = sequence;
        this.#listener?.onUnwritten(item);
      },
    };
    this.#normal = spool.lane(name, listener);
    this.#urgent = isUrgent && spool.lane(`${name}-urgent`, listener);
    this.last = Math.max(this.#normal.last, this.#urgent?.last ?? 0);
  }

  get unread(): number {
    return this.#normal.unread + (this.#urgent?.unread ?? 0);
  }

  get persisted(): number {
    return this.#normal.persisted + (this.#urgent?.persisted ?? 0);
  }

  listen(listener: BacklogListener<T>): void {
    this.#listener = listener;
  }

  hasUnread(item: T): boolean {
    return this.#laneOf(item).unread > 0;
  }

  append(item: T, held: boolean): boolean {
    item.place = this.#laneOf(item).append(item.sequence, this.#codec.encode(item), held);
    return item.place !== undefined;
  }

  setAside(item: T, { message }: PulsewireError): FinalOutcome | undefined {
    const path = this.#spool.setAside(this.#laneOf(item).name, item.sequence, this.#codec.encode(item));
    if (path === undefined) return undefined;
    return { status: "dropped", code: "set_aside", message: `${message} It is kept in ${path}.` };
  }

  read(onItem: (item: T) => void): number {
    let items = 0;
    const take = (bytes: Buffer, start: number, end: number, sequence: number, segment: Segment) => {
      let item: T;
      try {
        item = this.#codec.decode(bytes, start, end);
      } catch {
        // Whole, but of another version's making: it can never be sent.
        segment.settle(sequence);
        this.#listener?.onLost(1, "spool_damaged", sequence, sequence);
        return;
      }
      item.sequence = sequence;
      item.place = segment;
      items++;
      onItem(item);
    };
    const read = () => this.#urgent?.read(take) || this.#normal.read(take);
    while (read() > 0 && items === 0);
    return items;
  }

  #laneOf(item: T): Lane {
    return this.#urgent && this.#isUrgent(item) ? this.#urgent : this.#normal;
  }
}
