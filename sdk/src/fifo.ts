const minPlaces = 16;
/** With more places than this it begins anew when it is empty. */
const maxPlaces = 4096;

/** First in, first out, with the same small cost at any length: Array.shift moves all that is left. It goes round in one array. */
export class Fifo<T> {
  #items: (T | undefined)[] = new Array(minPlaces);
  #head = 0;
  #length = 0;

  /** How many are in it. */
  get length(): number {
    return this.#length;
  }

  /** Adds at the end. */
  push(item: T): void {
    const { length } = this.#items;
    if (this.#length === length) {
      this.#items = [...this.#items.splice(this.#head), ...this.#items];
      this.#items.length = length * 2;
      this.#head = 0;
    }
    this.#items[(this.#head + this.#length++) % this.#items.length] = item;
  }

  /** The first, left in place. */
  peek(): T | undefined {
    return this.#items[this.#head];
  }

  /** Takes the first. */
  shift(): T | undefined {
    const item = this.#items[this.#head];
    if (this.#length === 0) return undefined;
    this.#items[this.#head] = undefined;
    this.#head = (this.#head + 1) % this.#items.length;
    if (--this.#length === 0 && this.#items.length > maxPlaces) {
      this.#items = new Array(minPlaces);
      this.#head = 0;
    }
    return item;
  }
}
