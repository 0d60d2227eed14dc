import type { Batcher } from "./batcher.ts";
import { copyEvent, maxCopyBytes } from "./event-copy.ts";
import type { EventFields, EventInput } from "./event-input.ts";
import { EventPacker } from "./event-packer.ts";
import type { WatchedOutcome } from "./ledger.ts";
import type { PackedEvent } from "./packed-event.ts";

/** Events that wait to be encoded at most. */
const maxWaiting = 256;

/**
 * Takes events for a batcher. Most are only copied, which is a third of the work, and encoded when the program's own
 * code has run; what may be refused, or has to be on the disk at once, goes straight on.
 */
export class EventIntake {
  readonly #batcher: Batcher<PackedEvent>;
  readonly #packer = new EventPacker();
  readonly #waiting: EventFields[] = [];
  readonly #encode = () => this.encode();

  constructor(batcher: Batcher<PackedEvent>) {
    this.#batcher = batcher;
  }

  /** As Batcher.add(). @throws TypeError where a field has the wrong type */
  add(input: EventInput): Promise<void> | undefined {
    const copy = this.#batcher.surelyTakes(maxWaiting, maxWaiting * maxCopyBytes) && copyEvent(input);
    if (!copy) {
      this.encode();
      return this.#batcher.add(this.#packer.pack(input));
    }
    const count = this.#waiting.push(copy);
    if (count === 1) queueMicrotask(this.#encode);
    else if (count === maxWaiting) this.encode();
    return undefined;
  }

  /** As Batcher.watch(). @throws TypeError where a field has the wrong type */
  watch(input: EventInput): Promise<WatchedOutcome> {
    this.encode();
    return this.#batcher.watch(this.#packer.pack(input));
  }

  /** Hands on what waits. */
  encode(): void {
    if (this.#waiting.length === 0) return;
    // The batcher is sure to take as many, and that they can be encoded is known: nothing throws.
    for (const copy of this.#waiting.splice(0)) this.#batcher.add(this.#packer.pack(copy));
  }
}
