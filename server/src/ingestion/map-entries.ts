/** Where map entries are more than this, they are sorted by the engine. */
const insertionSortAtMost = 16;

/** The entries of the maps that a scan is reading, from outside to inside, to be brought into the order of their keys. */
export class MapEntries {
  /** Four numbers an entry: its start, its end, start and end of its key. */
  #entries = new Int32Array(256);
  #moved = new Uint8Array(1_024);
  readonly #order = new Int32Array(insertionSortAtMost);
  /** Where the next entry goes. */
  top = 0;

  clear(): void {
    this.top = 0;
  }

  push(start: number, end: number, keyStart: number, keyEnd: number): void {
    const { top } = this;
    if (top + 4 > this.#entries.length) {
      const grown = new Int32Array(2 * this.#entries.length);
      grown.set(this.#entries);
      this.#entries = grown;
    }
    const entries = this.#entries;
    entries[top] = start;
    entries[top + 1] = end;
    entries[top + 2] = keyStart;
    entries[top + 3] = keyEnd;
    this.top = top + 4;
  }

  /** Brings the entries from `base` on, which lie side by side, into the order of their keys. False: two keys are equal. */
  sort(bytes: Uint8Array, base: number): boolean {
    const entries = this.#entries;
    const top = this.top;
    this.top = base;
    let sorted = true;
    for (let index = base + 4; index < top; index += 4) {
      const order = this.#compareKeys(bytes, index - 4, index);
      if (order === 0) return false;
      if (order > 0) sorted = false;
    }
    return sorted || this.#rearrange(bytes, base, top, entries[base] as number, entries[top - 3] as number);
  }

  #rearrange(bytes: Uint8Array, base: number, top: number, start: number, end: number): boolean {
    const entries = this.#entries;
    const count = (top - base) >> 2;
    const order = count <= insertionSortAtMost ? this.#order : new Int32Array(count);
    for (let index = 0; index < count; index++) order[index] = base + 4 * index;
    if (count > insertionSortAtMost) order.sort((one, other) => this.#compareKeys(bytes, one, other));
    else this.#insertionSort(bytes, order, count);
    for (let index = 1; index < count; index++) {
      if (this.#compareKeys(bytes, order[index - 1] as number, order[index] as number) === 0) return false;
    }
    if (end - start > this.#moved.length) this.#moved = new Uint8Array(2 * (end - start));
    const moved = this.#moved;
    for (let at = start; at < end; at++) moved[at - start] = bytes[at] as number;
    let to = start;
    for (let index = 0; index < count; index++) {
      const entry = order[index] as number;
      const stop = (entries[entry + 1] as number) - start;
      for (let from = (entries[entry] as number) - start; from < stop; from++)
        bytes[to++] = moved[from] as number;
    }
    return true;
  }

  #insertionSort(bytes: Uint8Array, order: Int32Array, count: number): void {
    for (let index = 1; index < count; index++) {
      const entry = order[index] as number;
      let place = index;
      while (place > 0 && this.#compareKeys(bytes, order[place - 1] as number, entry) > 0) {
        order[place] = order[place - 1] as number;
        place--;
      }
      order[place] = entry;
    }
  }

  #compareKeys(bytes: Uint8Array, one: number, other: number): number {
    const entries = this.#entries;
    let left = entries[one + 2] as number;
    let right = entries[other + 2] as number;
    const leftEnd = entries[one + 3] as number;
    const rightEnd = entries[other + 3] as number;
    while (left < leftEnd && right < rightEnd) {
      const difference = (bytes[left++] as number) - (bytes[right++] as number);
      if (difference !== 0) return difference;
    }
    return leftEnd - left - (rightEnd - right);
  }
}
