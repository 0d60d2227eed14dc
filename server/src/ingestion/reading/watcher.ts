import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { WatchEventsResponse } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { failure } from "../../rpc/errors.ts";
import type { Sink } from "../../rpc/push-stream.ts";

/** Messages that wait for a reader that is behind; beyond, it is cut off. */
const maxWaiting = 64;

/** One stream of WatchEvents, and what waits for its reader. */
export class Watcher {
  readonly #sink: Sink<WatchEventsResponse>;
  readonly #waiting: WatchEventsResponse[] = [];
  #blocked = false;
  #ended = false;
  #onRoom = () => {};

  constructor(sink: Sink<WatchEventsResponse>) {
    this.#sink = sink;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Sends a message that many get; who does not read is cut off. */
  push(message: WatchEventsResponse): void {
    if (this.#ended) return;
    if (!this.#blocked) this.#write(message);
    else if (this.#waiting.length < maxWaiting) this.#waiting.push(message);
    else this.end(slowReader());
  }

  /** Sends a message and waits until there is room for the next: for what is read for this reader alone. */
  async send(message: WatchEventsResponse): Promise<void> {
    if (this.#ended) return;
    this.#write(message);
    if (!this.#blocked) return;
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve;
    });
  }

  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#onRoom();
    this.#sink.end(error);
  }

  /** The stream has ended by itself. */
  stop(): void {
    this.#ended = true;
    this.#onRoom();
  }

  #write(message: WatchEventsResponse): void {
    if (this.#sink.write(message)) return;
    this.#blocked = true;
    this.#sink.onDrain(() => {
      this.#blocked = false;
      this.#onRoom();
      for (let next = this.#waiting.shift(); next; next = this.#blocked ? undefined : this.#waiting.shift()) {
        this.#write(next);
      }
    });
  }
}

function slowReader() {
  return failure(
    ErrorReason.SLOW_READER,
    "the events come faster than they are read; go on from the last cursor, or with a narrower filter",
    { retryAfterMs: 1_000 },
  );
}
