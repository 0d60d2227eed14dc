/** Something that runs for a while; its place in the list is the list's own. */
export interface Listed<T> {
  isListed: boolean;
  earlier: T | undefined;
  later: T | undefined;
}

/**
 * What runs at the moment, in order of arrival.
 *
 * No Set or Map, for what comes and goes by the thousand: V8 replaces their tables all the time, and each old one points to the
 * next. Once one has grown old, collections of the young generation keep all that follow it and all calls that were in
 * them, which then have to be copied and collected with the whole heap. What has left this list points to nothing.
 */
export class RunningList<T extends Listed<T>> implements Iterable<T> {
  #first: T | undefined;
  #last: T | undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(one: T): void {
    if (one.isListed) return;
    one.isListed = true;
    one.earlier = this.#last;
    if (this.#last) this.#last.later = one;
    else this.#first = one;
    this.#last = one;
    this.#size++;
  }

  delete(one: T): void {
    if (!one.isListed) return;
    const { earlier, later } = one;
    one.isListed = false;
    one.earlier = undefined;
    one.later = undefined;
    if (earlier) earlier.later = later;
    else this.#first = later;
    if (later) later.earlier = earlier;
    else this.#last = earlier;
    this.#size--;
  }

  /** Whoever walks along may delete what it is given. */
  *[Symbol.iterator](): Iterator<T> {
    for (let one = this.#first; one; ) {
      const { later } = one;
      yield one;
      one = later;
    }
  }
}
