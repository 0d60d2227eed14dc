import { randomFillSync } from "node:crypto";
import { uuidText } from "./words.ts";

/** Gives out ids, as four words from a place on. */
export type AssignId = (words: Int32Array, to: number) => void;

/**
 * Ids for events in the order of receipt: UUIDv7 (RFC 9562) whose 12 bits after the version count up within a
 * millisecond (method 1 of section 6.2), so that the events of a batch keep their order.
 */
export function createRowIds(now: () => number = Date.now): AssignId {
  const random = new Int32Array(1_024);
  let used = random.length;
  let millisecond = 0;
  let counter = 0;
  return (words, to) => {
    const current = now();
    if (current > millisecond) {
      millisecond = current;
      counter = 0;
    } else if (++counter > 0xfff) {
      millisecond++;
      counter = 0;
    }
    if (used + 2 > random.length) {
      randomFillSync(random);
      used = 0;
    }
    words[to] = Math.floor(millisecond / 0x1_0000) | 0;
    words[to + 1] = ((millisecond % 0x1_0000) << 16) | 0x7000 | counter;
    words[to + 2] = ((random[used++] as number) & 0x3fff_ffff) | 0x8000_0000;
    words[to + 3] = random[used++] as number;
  };
}

/** The same as texts. */
export function createEventIds(now?: () => number): () => string {
  const assignId = createRowIds(now);
  return () => {
    const id = new Int32Array(4);
    assignId(id, 0);
    return uuidText(id, 0);
  };
}

/** The time that a UUIDv7 was made at. */
export function timeOfUuidv7(id: string): Date {
  return new Date(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16));
}

/** The same of an id in words, milliseconds. */
export function timeOfId(words: Int32Array, from: number): number {
  return ((words[from] as number) >>> 0) * 0x1_0000 + ((words[from + 1] as number) >>> 16);
}
