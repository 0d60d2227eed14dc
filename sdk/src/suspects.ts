/** Items that are sent together. */
export interface Batch<T> {
  items: T[];
  /** Times it was sent. */
  attempts: number;
  /** Times that it failed, for no known reason, while others got through. */
  strikes: number;
  /** How many had got through when it last failed so. */
  successes?: number;
}

/** Strikes until a batch is halved. */
const maxStrikes = 10;
/** What a failure counts for where nothing overtakes the batch, so that nobody knows whether others would get through. */
const lonelyStrike = 0.25;
/** A batch with which no other one can be compared is halved each time that it was sent so often. */
const lonelyAttempts = 5;
/** Where there are so many, nothing gets through: no other batch is tried, for it would only become one more. */
const maxSuspects = 16;

/**
 * Batches that failed for no known reason. It may be the server's, which heals, or something in the batch, which does not.
 *
 * Others are sent before it. When these get through and it fails all the same, ten times, it is halved until what fails is one
 * item, which is given up. While nothing gets through it is an outage like any other, and nothing is. Where there are no others,
 * its halves are compared.
 */
export class Suspects<T> {
  readonly #ordered: boolean;
  /** The next one to be tried first. */
  readonly batches: Batch<T>[] = [];

  /** @param ordered nothing may be sent before them */
  constructor(ordered: boolean) {
    this.#ordered = ordered;
  }

  /** Whether no other batch is to be tried. */
  get full(): boolean {
    return this.batches.length >= (this.#ordered ? 1 : maxSuspects);
  }

  /** Whether the turn of the next one has come before others': those have got through since it failed. */
  isDue(successes: number): boolean {
    return !this.#ordered && (this.batches[0]?.successes ?? successes) < successes;
  }

  /**
   * Takes a batch that has failed.
   *
   * @param successes how many have got through so far
   * @param othersPassed other items of the same batch got through
   * @returns false where it is one item that is to be given up
   */
  add(batch: Batch<T>, successes: number, othersPassed: boolean): boolean {
    const struck = othersPassed || successes > (batch.successes ?? successes);
    if (struck) batch.strikes++;
    else if (this.#ordered) batch.strikes += lonelyStrike;
    batch.successes = successes;
    const over = batch.strikes >= maxStrikes;
    const alone = !struck && this.batches.length === 0 && batch.attempts % lonelyAttempts === 0;
    if ((over || alone) && batch.items.length > 1) {
      batch.strikes = Math.min(batch.strikes, maxStrikes - 1);
      this.batches.unshift(...halves(batch));
      return true;
    }
    if (over) return false;
    if (this.#ordered) this.batches.unshift(batch);
    else this.batches.push(batch);
    return true;
  }
}

export function halves<T>(batch: Batch<T>): [Batch<T>, Batch<T>] {
  const { items } = batch;
  const half = Math.ceil(items.length / 2);
  return [
    { ...batch, items: items.slice(0, half) },
    { ...batch, items: items.slice(half) },
  ];
}
