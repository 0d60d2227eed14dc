import type { Place } from "./backlog.ts";
import { type Page, PagePool } from "./event-pages.ts";
import { eventTag } from "./event-tags.ts";
import type { Item } from "./queue.ts";

/**
 * Objects kept for later. An object lives until its event is settled, too long for V8's young generation to stay small: with
 * new ones for all events of a large backlog it grows to its bound of tens of megabytes.
 */
const spares: PackedEvent[] = [];
const maxSpares = 4096;

/** An event ready to be sent: a range of a page of memory that many share, encoded once, however often it is sent. */
export class PackedEvent implements Item {
  page: Page;
  /** Where it begins: with its tag and length, as it stands in a request. */
  start = 0;
  end = 0;
  /** 1 to 10. */
  priority = 0;
  sequence = 0;
  place: Place | undefined = undefined;

  /** An event that lies in this page. */
  static of(page: Page, start: number, end: number, priority: number): PackedEvent {
    const event = spares.pop() ?? new PackedEvent(page);
    page.use();
    event.page = page;
    event.start = start;
    event.end = end;
    event.priority = priority;
    event.sequence = 0;
    event.place = undefined;
    return event;
  }

  private constructor(page: Page) {
    this.page = page;
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

  /** Gives its bytes back, and itself for another event: called once, when neither is read again. */
  free(): void {
    this.page.release();
    if (spares.length < maxSpares) spares.push(this);
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
  copy(bytes: Buffer, from: number, to: number): PackedEvent {
    const length = to - from;
    if (bytes[from] !== eventTag.events || length < 4)
      throw new TypeError("These are not the bytes of an event.");
    if (this.#used + length > this.#page.bytes.length) {
      this.#page.release();
      this.#page = this.#pool.take(length);
      this.#used = 0;
    }
    bytes.copy(this.#page.bytes, this.#used, from, to);
    const start = this.#used;
    this.#used += length;
    // The packer writes the priority last.
    const priority = bytes[to - 2] === eventTag.priority ? (bytes[to - 1] as number) : 1;
    return PackedEvent.of(this.#page, start, this.#used, Math.min(priority, maxPriority));
  }
}

const maxPriority = 10;
