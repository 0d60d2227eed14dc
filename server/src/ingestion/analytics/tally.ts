/** Adds up a range in this process, where a million entries take milliseconds. */
import type { Entries } from "../rollups/entries.ts";
import type { Digest } from "./digest.ts";

/** A user by number. */
export interface TalliedUser {
  readonly user: number;
  readonly count: number;
  readonly lastMs: number;
}

export interface Tallied {
  readonly total: number;
  readonly withoutUser: number;
  readonly uniqueUsers: number;
  readonly uniqueSessions: number;
  /** Most first. */
  readonly topUsers: readonly TalliedUser[];
}

/** The highest numbers that there are. */
export interface LastNumbers {
  readonly lastUser: number;
  readonly lastSession: number;
}

/** Events by user, and sessions. */
export class Tally {
  readonly #counts: Int32Array;
  readonly #lasts: Float64Array;
  readonly #sessions: Uint32Array;

  constructor({ lastUser, lastSession }: LastNumbers) {
    this.#counts = new Int32Array(lastUser + 1);
    this.#lasts = new Float64Array(lastUser + 1);
    this.#sessions = new Uint32Array((lastSession >>> 5) + 1);
  }

  add(user: number, count: number, lastMs: number): void {
    this.#counts[user] = (this.#counts[user] as number) + count;
    if (lastMs > (this.#lasts[user] as number)) this.#lasts[user] = lastMs;
  }

  addSession(session: number): void {
    const word = session >>> 5;
    this.#sessions[word] = (this.#sessions[word] as number) | (1 << (session & 31));
  }

  addDigest({ users, counts, lasts, sessions }: Digest, startMs: number): void {
    for (let index = 0; index < users.length; index++) {
      this.add(users[index] as number, counts[index] as number, startMs + (lasts[index] as number));
    }
    if ("words" in sessions) {
      const { firstWord, words } = sessions;
      for (let index = 0; index < words.length; index++) {
        const word = firstWord + index;
        this.#sessions[word] = (this.#sessions[word] as number) | (words[index] as number);
      }
    } else {
      const { numbers } = sessions;
      for (let index = 0; index < numbers.length; index++) this.addSession(numbers[index] as number);
    }
  }

  result(top: number): Tallied {
    const counts = this.#counts;
    let [total, uniqueUsers] = [0, 0];
    for (const count of counts) {
      total += count;
      if (count > 0) uniqueUsers++;
    }
    // Number 0 stands for none.
    const withoutUser = counts[0] as number;
    this.#sessions[0] = (this.#sessions[0] as number) & ~1;
    return {
      total,
      withoutUser,
      uniqueUsers: withoutUser > 0 ? uniqueUsers - 1 : uniqueUsers,
      uniqueSessions: bitsOf(this.#sessions),
      topUsers: mostOf(counts, top).map((user) => ({
        user,
        count: counts[user] as number,
        lastMs: this.#lasts[user] as number,
      })),
    };
  }
}

/** Calls `onEntry` with the place of every entry of these users. `byUser`: the entries are in the order of users. */
export function entriesOfUsers(
  entries: Entries,
  byUser: boolean,
  wanted: UserSet,
  onEntry: (index: number) => void,
): void {
  const { size, users } = entries;
  // Beyond some users it is quicker to look at all.
  if (!byUser || wanted.numbers.length * 20 > size) {
    for (let index = 0; index < size; index++) if (wanted.has[users[index] as number] === 1) onEntry(index);
    return;
  }
  for (const user of wanted.numbers) {
    for (let index = firstOf(users, user); index < size && users[index] === user; index++) onEntry(index);
  }
}

/** Users by number, as a list and as a table. */
export interface UserSet {
  readonly numbers: readonly number[];
  /** 1 at the places of those who are in it. */
  readonly has: Uint8Array;
}

export function userSet(numbers: readonly number[], lastUser: number): UserSet {
  const has = new Uint8Array(lastUser + 1);
  for (const number of numbers) has[number] = 1;
  return { numbers, has };
}

/** The first place of a number in numbers in order, or where it would be. */
function firstOf(sorted: Int32Array, number: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as number) < number) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The places of the greatest counts but for place 0, greatest first; of equal ones the lower place is first. */
function mostOf(counts: Int32Array, top: number): number[] {
  const most: number[] = [];
  let least = 0;
  for (let place = 1; place < counts.length; place++) {
    const count = counts[place] as number;
    if (count <= least) continue;
    const at = most.findLastIndex((other) => (counts[other] as number) >= count) + 1;
    most.splice(at, 0, place);
    if (most.length > top) most.pop();
    if (most.length === top) least = counts[most.at(-1) as number] as number;
  }
  return most;
}

function bitsOf(words: Uint32Array): number {
  let sum = 0;
  for (let index = 0; index < words.length; index++) {
    let word = words[index] as number;
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    sum += Math.imul((word + (word >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return sum;
}
