/**
 * The entries of a period, made ready to be added up often: by user without regard to sessions and types, and the sessions as a
 * set. How large it is depends on the users and sessions of the period, not on its events.
 */
import type { Entries } from "../rollups/entries.ts";

export interface Digest {
  /** A user may occur several times where the entries are not in the order of users. */
  readonly users: Int32Array;
  readonly counts: Int32Array;
  /** Milliseconds from the start of the period. */
  readonly lasts: Int32Array;
  readonly sessions: SessionSet;
  /** What it takes in memory. */
  readonly bytes: number;
}

/** Bits from a word on, or where these would be mostly empty the numbers themselves. */
export type SessionSet =
  | { readonly firstWord: number; readonly words: Uint32Array }
  | { readonly numbers: Int32Array };

/** Of entries of one type, or of all where none is given. */
export function digestOf(entries: Entries, type: number | undefined): Digest {
  const { size } = entries;
  const [users, counts, lasts] = [new Int32Array(size), new Int32Array(size), new Int32Array(size)];
  const sessions = new Int32Array(size);
  let length = 0;
  let kept = 0;
  for (let index = 0; index < size; index++) {
    if (type !== undefined && entries.types[index] !== type) continue;
    sessions[kept++] = entries.sessions[index] as number;
    const user = entries.users[index] as number;
    const last = entries.lasts[index] as number;
    if (length > 0 && users[length - 1] === user) {
      counts[length - 1] = (counts[length - 1] as number) + (entries.counts[index] as number);
      if (last > (lasts[length - 1] as number)) lasts[length - 1] = last;
    } else {
      users[length] = user;
      counts[length] = entries.counts[index] as number;
      lasts[length++] = last;
    }
  }
  const set = sessionSet(sessions.subarray(0, kept));
  return {
    users: users.slice(0, length),
    counts: counts.slice(0, length),
    lasts: lasts.slice(0, length),
    sessions: set,
    bytes: 12 * length + ("words" in set ? set.words.byteLength : set.numbers.byteLength) + 200,
  };
}

function sessionSet(sessions: Int32Array): SessionSet {
  let [first, last] = [2 ** 31 - 1, 0];
  for (let index = 0; index < sessions.length; index++) {
    const session = sessions[index] as number;
    if (session === 0) continue;
    if (session < first) first = session;
    if (session > last) last = session;
  }
  if (last === 0) return { numbers: new Int32Array() };
  const firstWord = first >>> 5;
  const length = (last >>> 5) - firstWord + 1;
  if (length > 2 * sessions.length) return { numbers: sessions.slice() };
  const words = new Uint32Array(length);
  for (let index = 0; index < sessions.length; index++) {
    const session = sessions[index] as number;
    if (session === 0) continue;
    const word = (session >>> 5) - firstWord;
    words[word] = (words[word] as number) | (1 << (session & 31));
  }
  return { firstWord, words };
}
