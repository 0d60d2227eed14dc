/** Size of a page, where nothing in it is larger. */
const pageBytes = 64 * 1024;
/** Pages kept for later. */
const maxFree = 32;

/** Memory that many events share. When the last of them is settled it is used again. */
export class Page {
  readonly bytes: Uint8Array;
  #pool: PagePool | undefined;
  #users = 1;

  /** Its maker is its first user. */
  constructor(bytes: Uint8Array, pool: PagePool) {
    this.bytes = bytes;
    this.#pool = pool;
  }

  /** Somebody more uses it. */
  use(): void {
    this.#users++;
  }

  /** One user less. */
  release(): void {
    if (--this.#users === 0) this.#pool?.give(this);
  }

  /** It is never used again, for something may read it still that cannot be waited for. */
  retire(): void {
    this.#pool = undefined;
  }
}

/** Pages that are not in use. */
export class PagePool {
  readonly #free: Page[] = [];

  /** A page with room for so many bytes. */
  take(bytes: number): Page {
    const page = bytes <= pageBytes ? this.#free.pop() : undefined;
    page?.use();
    return page ?? new Page(new Uint8Array(Math.max(bytes, pageBytes)), this);
  }

  /** Takes a page back. */
  give(page: Page): void {
    if (page.bytes.length === pageBytes && this.#free.length < maxFree) this.#free.push(page);
  }
}
