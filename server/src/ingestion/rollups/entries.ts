/**
 * Who did what in a period: one entry for each type, user and session, with the number of their events and the time of the
 * last. All but the times are numbers of names (see names.ts), 0 for none. Kept as columns in a row (see columns.ts), 6 to 10
 * bytes an entry, added up faster than a database could group them.
 */
import { decodeColumns, encodeColumns } from "./columns.ts";

type Columns = [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];
const columnCount = 5;
/** Beyond 4 million entries, 80 MB, a row would be of no use. */
const maxEntries = 2 ** 22;

/** The entries of a period as they are read: columns side by side. */
export interface Entries {
  readonly size: number;
  readonly types: Int32Array;
  readonly users: Int32Array;
  readonly sessions: Int32Array;
  readonly counts: Int32Array;
  /** Milliseconds from the start of the period. */
  readonly lasts: Int32Array;
}

/** Reads what `EntryTable.encode` wrote, in its order. */
export function decodeEntries(bytes: Buffer): Entries {
  const [types, users, sessions, counts, lasts] = decodeColumns(bytes, columnCount) as Columns;
  return { size: types.length, types, users, sessions, counts, lasts };
}

/** Thrown where a period has more entries than a row can hold. */
export class TooManyEntries extends RangeError {
  override readonly name = "TooManyEntries";
}

/** Entries while they are added up: a hash table with open addressing over columns. */
export class EntryTable {
  size = 0;
  #columns: Int32Array[];
  #slots: Int32Array;
  readonly #most: number;

  constructor(most = maxEntries, capacity = 64) {
    this.#most = most;
    this.#columns = Array.from({ length: columnCount }, () => new Int32Array(capacity));
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * capacity)));
  }

  add(type: number, user: number, session: number, count: number, last: number): void {
    const [types, users, sessions, counts, lasts] = this.#columns as Columns;
    const mask = this.#slots.length - 1;
    let slot = hash(type, user, session) & mask;
    for (let at = this.#slots[slot]; at; at = this.#slots[slot]) {
      const index = at - 1;
      if (users[index] === user && sessions[index] === session && types[index] === type) {
        counts[index] = (counts[index] as number) + count;
        if (last > (lasts[index] as number)) lasts[index] = last;
        return;
      }
      slot = (slot + 1) & mask;
    }
    if (this.size >= this.#most)
      throw new TooManyEntries("a period has too many users and sessions to be added up");
    const index = this.size++;
    this.#slots[slot] = index + 1;
    types[index] = type;
    users[index] = user;
    sessions[index] = session;
    counts[index] = count;
    lasts[index] = last;
    if (this.size === types.length) this.#grow();
  }

  /** Adds the entries of a period that begins `shiftMs` after this one. */
  addAll({ size, types, users, sessions, counts, lasts }: Entries, shiftMs = 0): void {
    for (let index = 0; index < size; index++) {
      this.add(
        types[index] as number,
        users[index] as number,
        sessions[index] as number,
        counts[index] as number,
        (lasts[index] as number) + shiftMs,
      );
    }
  }

  /** The columns as bytes; `byUser`: in the order of users, so that those of one can be found without reading all. */
  encode(byUser = false): Buffer {
    const order = byUser ? this.#orderByUser() : undefined;
    return encodeColumns(
      this.#columns.map((column) => {
        const whole = column.subarray(0, this.size);
        return order ? inOrder(whole, order) : whole;
      }),
    );
  }

  #orderByUser(): Uint32Array {
    const users = this.#columns[1] as Int32Array;
    // Both fit into the 53 bits of a number, and numbers are sorted without a function to compare them.
    const keys = new Float64Array(this.size);
    for (let index = 0; index < this.size; index++)
      keys[index] = (users[index] as number) * maxEntries + index;
    keys.sort();
    const order = new Uint32Array(this.size);
    for (let index = 0; index < this.size; index++) order[index] = (keys[index] as number) % maxEntries;
    return order;
  }

  #grow(): void {
    this.#columns = this.#columns.map((column) => {
      const longer = new Int32Array(2 * column.length);
      longer.set(column);
      return longer;
    });
    const [types, users, sessions] = this.#columns as [Int32Array, Int32Array, Int32Array];
    this.#slots = new Int32Array(2 * this.#slots.length);
    const mask = this.#slots.length - 1;
    for (let index = 0; index < this.size; index++) {
      let slot = hash(types[index] as number, users[index] as number, sessions[index] as number) & mask;
      while (this.#slots[slot]) slot = (slot + 1) & mask;
      this.#slots[slot] = index + 1;
    }
  }
}

function inOrder(column: Int32Array, order: Uint32Array): Int32Array {
  const ordered = new Int32Array(order.length);
  for (let index = 0; index < order.length; index++)
    ordered[index] = column[order[index] as number] as number;
  return ordered;
}

function hash(type: number, user: number, session: number): number {
  let mixed = Math.imul(user, 0x9e3779b1) ^ Math.imul(session, 0x85ebca6b) ^ Math.imul(type, 0xc2b2ae35);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return mixed ^ (mixed >>> 13);
}
