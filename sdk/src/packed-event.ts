import type { Place } from "./backlog.ts";
import { type Page, PagePool } from "./event-pages.ts";
import { eventTag } from "./event-tags.ts";
import type { Item } from "./queue.ts";

/** An event ready to be sent: a range of a page of memory that many share, encoded once, however often it is sent. */
export class PackedEvent implements Item {
  readonly page: Page;
  /** Where it begins: with its tag and length, as it stands in a request. */
  readonly start: number;
  readonly end: number;
  /** 1 to 10. */
  readonly priority: number;
  sequence = 0;
  place: Place | undefined = undefined;

  constructor(page: Page, start: number, end: number, priority: number) {
    page.use();
    this.page = page;
    this.start = start;
    this.end = end;
    this.priority = priority;
  }

  get size(): number {
    return this.end - this.start;
  }

  /** Its bytes, tag and length included. */
  get bytes(): Uint8Array {
    return this.page.bytes.subarray(this.start, this.end);
  }

  /** Its id, which is its first field. */
  get id(): string {
    const { bytes } = this.page;
    let at = this.start + 1;
    while ((bytes[at++] as number) > 0x7f);
    if (bytes[at++] !== eventTag.eventId) throw new TypeError("The event has no id.");
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      length += (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    return decoder.decode(bytes.subarray(at, at + length));
  }

  /** Gives its bytes back: called once, when they are never read again. */
  free(): void {
    this.page.release();
  }
}

const decoder = /* @__PURE__ */ new TextDecoder();

/** Events that were encoded before, copied into pages. */
export class EventPages {
  readonly #pool = new PagePool();
  #page = this.#pool.take(0);
  #used = 0;

  /**
   * Takes the bytes of an event, tag and length included.
   *
   * @throws TypeError where they are none
   */
  copy(bytes: Uint8Array): PackedEvent {
    const { length } = bytes;
    if (bytes[0] !== eventTag.events || length < 4)
      throw new TypeError("These are not the bytes of an event.");
    if (this.#used + length > this.#page.bytes.length) {
      this.#page.release();
      this.#page = this.#pool.take(length);
      this.#used = 0;
    }
    this.#page.bytes.set(bytes, this.#used);
    const start = this.#used;
    this.#used += length;
    // The packer writes the priority last.
    const priority = bytes[length - 2] === eventTag.priority ? (bytes[length - 1] as number) : 1;
    return new PackedEvent(this.#page, start, this.#used, Math.min(priority, maxPriority));
  }
}

const maxPriority = 10;
