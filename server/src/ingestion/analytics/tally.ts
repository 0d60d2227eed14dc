/** Adds up the entries of a range: in this process, for a million of them takes milliseconds here. */
import type { Entries } from "../rollups/entries.ts";

/** A user by number. */
export interface TalliedUser {
  readonly user: number;
  readonly count: number;
  readonly lastMs: number;
  /** Events by type. */
  readonly types: Map<number, number>;
}

/** Which entries count. */
export interface TallyFilter {
  /** Only this type. */
  readonly type: number | undefined;
  /** Only users whose place is 1. */
  readonly users: Uint8Array | undefined;
}

export interface Tally {
  readonly total: number;
  readonly withoutUser: number;
  readonly uniqueUsers: number;
  readonly uniqueSessions: number;
  readonly topUsers: readonly TalliedUser[];
}

/** Entries of a period that begins at a time. */
export interface Period {
  readonly startMs: number;
  readonly entries: Entries;
}

/** `onEntry` sees each entry that counts. `lastUser` and `lastSession` are the highest numbers that there are. */
export function tally(
  periods: readonly Period[],
  filter: TallyFilter,
  { lastUser, lastSession }: { readonly lastUser: number; readonly lastSession: number },
  top: number,
  onEntry?: (startMs: number, type: number, count: number) => void,
): Tally {
  const counts = new Int32Array(lastUser + 1);
  const lasts = new Float64Array(lastUser + 1);
  const sessionsSeen = new Uint32Array((lastSession >>> 5) + 1);
  let total = 0;
  for (const { startMs, entries } of periods) {
    const { size, types, users, sessions, counts: added, lasts: addedLasts } = entries;
    for (let index = 0; index < size; index++) {
      const user = users[index] as number;
      if (filter.type !== undefined && types[index] !== filter.type) continue;
      if (filter.users && filter.users[user] !== 1) continue;
      const count = added[index] as number;
      total += count;
      counts[user] = (counts[user] as number) + count;
      const last = startMs + (addedLasts[index] as number);
      if (last > (lasts[user] as number)) lasts[user] = last;
      const session = sessions[index] as number;
      const word = session >>> 5;
      sessionsSeen[word] = (sessionsSeen[word] as number) | (1 << (session & 31));
      onEntry?.(startMs, types[index] as number, count);
    }
  }
  // Number 0 stands for none.
  const withoutUser = counts[0] as number;
  counts[0] = 0;
  sessionsSeen[0] = (sessionsSeen[0] as number) & ~1;
  const topUsers = mostOf(counts, top);
  const typesOf = typesOfUsers(periods, filter, topUsers, lastUser);
  return {
    total,
    withoutUser,
    uniqueUsers: counts.reduce((sum, count) => sum + (count > 0 ? 1 : 0), 0),
    uniqueSessions: bitsOf(sessionsSeen),
    topUsers: topUsers.map((user) => ({
      user,
      count: counts[user] as number,
      lastMs: lasts[user] as number,
      types: typesOf.get(user) ?? new Map(),
    })),
  };
}

/** The places of the greatest counts, greatest first; of equal ones the lower place is first. */
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

function typesOfUsers(
  periods: readonly Period[],
  filter: TallyFilter,
  wanted: readonly number[],
  lastUser: number,
): Map<number, Map<number, number>> {
  const found = new Map(wanted.map((user) => [user, new Map<number, number>()]));
  const isWanted = new Uint8Array(lastUser + 1);
  for (const user of wanted) isWanted[user] = 1;
  for (const { entries } of periods) {
    const { size, types, users, counts } = entries;
    for (let index = 0; index < size; index++) {
      const user = users[index] as number;
      if (isWanted[user] !== 1) continue;
      const type = types[index] as number;
      if (filter.type !== undefined && type !== filter.type) continue;
      const byType = found.get(user) as Map<number, number>;
      byType.set(type, (byType.get(type) ?? 0) + (counts[index] as number));
    }
  }
  return found;
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
