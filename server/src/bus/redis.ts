import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type Bus, type BusTiming, busTiming } from "./bus.ts";
import { connectRedis } from "./redis-connection.ts";
import { createSubscribers, envelopeOf, notSent } from "./subscribers.ts";

/** A bus on Redis' PUBLISH and SUBSCRIBE, over two connections. Resolves when it is connected. */
export async function createRedisBus(
  url: string,
  logger: Logger,
  departures: Partial<BusTiming> = {},
): Promise<Bus> {
  const timing = { ...busTiming, ...departures };
  const subscribers = createSubscribers(logger);
  const closing = new AbortController();
  await using undo = new AsyncDisposableStack();
  const { client: sender, prefix } = await connectRedis(url, logger, timing);
  undo.defer(() => sender.disconnect());
  const { client: receiver } = await connectRedis(url, logger, timing);
  undo.defer(() => receiver.disconnect());
  const carrier = `${prefix}:bus`;

  let isConnected = true;
  receiver.on("message", (_carrier: string, envelope: string) => subscribers.deliver(envelope));
  const lost = () => {
    if (isConnected && !closing.signal.aborted) logger.warn("the bus has lost Redis; connecting again");
    isConnected = false;
  };
  const breakOff = () => {
    lost();
    if (!closing.signal.aborted) receiver.disconnect(true);
  };
  receiver.on("close", lost);
  await receiver.subscribe(carrier);
  receiver.on("ready", () => {
    // Where this fails, the connection must not stay without a subscription.
    receiver.subscribe(carrier).then(() => {
      logger.info("the bus is connected again");
      subscribers.tellGap();
      isConnected = true;
    }, breakOff);
  });
  // Subscribing once more changes nothing and asks for an answer, as PING does not while subscribed.
  let asked = false;
  const heartbeat = setInterval(() => {
    if (!isConnected || asked) return;
    asked = true;
    receiver
      .subscribe(carrier)
      .then(() => {}, breakOff)
      .finally(() => {
        asked = false;
      });
  }, timing.heartbeatMs).unref();
  undo.defer(() => clearInterval(heartbeat));

  const running = undo.move();
  return {
    subscribe: subscribers.subscribe,
    onGap: subscribers.onGap,
    get connected() {
      return isConnected;
    },
    async publish(channel, message) {
      const envelope = envelopeOf(channel, message);
      const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(timing.publishTimeoutMs)]);
      for (;;) {
        try {
          if (closing.signal.aborted) throw new Error("closed");
          await sender.publish(carrier, envelope);
          return;
        } catch (cause) {
          const pause = sleep(timing.retryMinMs, undefined, { signal });
          await pause.catch(() => {
            throw notSent(closing.signal.aborted, cause);
          });
        }
      }
    },
    async close() {
      isConnected = false;
      closing.abort();
      await running.disposeAsync();
    },
  };
}
