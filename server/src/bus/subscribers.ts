import type { Logger } from "pino";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import { type Bus, maxMessageBytes } from "./bus.ts";

/** The subscriptions of this process, and the envelope that all channels share. */
export interface Subscribers extends Pick<Bus, "subscribe" | "onGap"> {
  /** Hands an envelope to the subscribers of its channel. */
  deliver(envelope: string): void;
  /** Tells all who asked that messages may have been missed. */
  tellGap(): void;
}

/** Makes an empty set of subscriptions. A listener that throws is logged and keeps nobody else from hearing. */
export function createSubscribers(logger: Logger): Subscribers {
  const channels = new Map<string, Set<(message: string) => void>>();
  const gaps = new Set<() => void>();
  const guarded = (fn: () => void) => {
    try {
      fn();
    } catch (err) {
      logger.error({ err }, "a listener of the bus failed");
    }
  };
  return {
    subscribe(channel, listener) {
      assertChannel(channel);
      const own = (message: string) => listener(message);
      let listeners = channels.get(channel);
      if (!listeners) {
        listeners = new Set();
        channels.set(channel, listeners);
      }
      listeners.add(own);
      return () => {
        listeners.delete(own);
        if (listeners.size === 0 && channels.get(channel) === listeners) channels.delete(channel);
      };
    },
    onGap(listener) {
      const own = () => listener();
      gaps.add(own);
      return () => gaps.delete(own);
    },
    deliver(envelope) {
      const end = envelope.indexOf(" ");
      const message = envelope.slice(end + 1);
      for (const listener of channels.get(envelope.slice(0, end)) ?? []) guarded(() => listener(message));
    },
    tellGap() {
      for (const listener of gaps) guarded(listener);
    },
  };
}

/** The text that travels. Throws for a message that not every carrier could carry. */
export function envelopeOf(channel: string, message: string): string {
  assertChannel(channel);
  const bytes = Buffer.byteLength(message);
  if (bytes > maxMessageBytes) {
    throw new RangeError(`a message of ${bytes} bytes is longer than ${maxMessageBytes}`);
  }
  if (message.includes("\0")) throw new TypeError("a message must not hold the character U+0000");
  return `${channel} ${message}`;
}

const retryAfterMs = 1_000;

/** The error of a message that could not be sent. */
export function notSent(closed: boolean, cause: unknown) {
  return failure(
    ErrorReason.DEPENDENCY_UNAVAILABLE,
    closed
      ? "the server is shutting down; call again"
      : "the other servers cannot be told of the change right now; call again",
    { metadata: { dependency: "bus" }, retryAfterMs, cause },
  );
}

function assertChannel(channel: string): void {
  if (!/^[a-z][a-z0-9:._-]{0,99}$/.test(channel)) throw new TypeError(`'${channel}' is no name of a channel`);
}
