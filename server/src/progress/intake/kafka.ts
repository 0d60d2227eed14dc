/**
 * Reports from a topic of Kafka, as a member of a consumer group.
 *
 *   fetch → handled side by side, at most `maxUnderWay` → done in the order of the offsets → committed
 *
 * An offset is committed only when everything before it is done, which means committed in the database or put aside. What
 * is delivered again, as after a rebalance or a crash, counts once: a report without an update id has one from where its
 * message lies.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Consumer, type Message, type MessagesStream } from "@platformatic/kafka";
import type { Logger } from "pino";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import type { IntakeFigures } from "./figures.ts";
import type { Intake } from "./intake.ts";
import type { KafkaSettings } from "./settings.ts";

/** Messages that are handled at once; beyond, no more are fetched. */
const maxUnderWay = 2_000;
const commitIntervalMs = 200;
const lagIntervalMs = 5_000;
/** A member that is not heard of for so long loses its partitions. */
const sessionTimeoutMs = 10_000;
const heartbeatMs = 2_000;
const idleMs = 1_000;

type KafkaMessage = Message<Buffer, Buffer, Buffer, Buffer>;
type Session = MessagesStream<Buffer, Buffer, Buffer, Buffer>;

interface UnderWay {
  readonly message: KafkaMessage;
  isDone: boolean;
}

/** Begins to consume, and begins anew whenever that ends with an error. */
export function startKafka(
  settings: KafkaSettings,
  intake: Intake,
  figures: IntakeFigures,
  logger: Logger,
): Worker {
  return startLoop({
    name: "progress from kafka",
    async step(signal) {
      try {
        await consume(settings, intake, figures, logger, signal);
      } catch (error) {
        figures.errors++;
        throw error;
      }
      return "idle";
    },
    idleMs,
    logger,
  });
}

async function consume(
  { brokers, topic, group, tls, sasl }: KafkaSettings,
  intake: Intake,
  figures: IntakeFigures,
  logger: Logger,
  signal: AbortSignal,
): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const consumer = new Consumer({
    groupId: group,
    clientId: "pulsewire",
    bootstrapBrokers: [...brokers],
    autocommit: false,
    sessionTimeout: sessionTimeoutMs,
    rebalanceTimeout: sessionTimeoutMs,
    heartbeatInterval: heartbeatMs,
    maxWaitTime: 500,
    ...(tls && { tls: {} }),
    ...(sasl && { sasl }),
  });
  undo.defer(async () => {
    await Promise.resolve(consumer.close(true)).catch(ignoreWhenClosing(logger));
  });
  const stream: Session = await consumer.consume({
    topics: [topic],
    mode: "committed",
    fallbackMode: "earliest",
  });
  undo.defer(() => stream.close().catch(ignoreWhenClosing(logger)));
  const leaving = new AbortController();
  const over = AbortSignal.any([signal, leaving.signal]);
  const line = createLine(figures, logger);
  const ticking = Promise.all([
    tick(commitIntervalMs, over, () => line.commit()),
    tick(lagIntervalMs, over, async () => {
      figures.lag = await lagOf(consumer, topic);
    }),
  ]);
  const abort = () => stream.destroy();
  signal.addEventListener("abort", abort);
  try {
    for await (const message of stream) {
      line.add(message, intake.handle(intakeMessage(message), over));
      if (line.length >= maxUnderWay) await line.room(over);
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    leaving.abort();
    await ticking;
    await line.settled();
    await line.commit();
  }
}

function intakeMessage({ topic, partition, offset, timestamp, value }: KafkaMessage) {
  const position = `${topic}/${partition}/${offset}`;
  // With the time: a topic that was deleted and made anew counts its offsets from 0 again.
  return { position, deliveryId: `kafka:${position}@${timestamp}`, payload: (value ?? "").toString() };
}

/** Messages under way in the order in which they came. */
function createLine(figures: IntakeFigures, logger: Logger) {
  const partitions = new Map<number, UnderWay[]>();
  const handling = new Set<Promise<void>>();
  let length = 0;
  let freed = Promise.withResolvers<void>();

  return {
    get length() {
      return length;
    },
    add(message: KafkaMessage, handled: Promise<boolean>): void {
      const entry: UnderWay = { message, isDone: false };
      const waiting = partitions.get(message.partition) ?? [];
      partitions.set(message.partition, waiting);
      waiting.push(entry);
      length++;
      const running = handled.then((done) => {
        entry.isDone = done;
        handling.delete(running);
        freed.resolve();
        freed = Promise.withResolvers();
      });
      handling.add(running);
    },
    /** Waits until something was done with, and takes off the line what nothing waits for. */
    async room(signal: AbortSignal): Promise<void> {
      while (length >= maxUnderWay && !signal.aborted) {
        await freed.promise;
        await this.commit();
      }
    },
    async settled(): Promise<void> {
      await Promise.all(handling);
    },
    /** Commits what is done, as far as everything before it is. */
    async commit(): Promise<void> {
      for (const waiting of partitions.values()) {
        const open = waiting.findIndex(({ isDone }) => !isDone);
        const done = waiting.splice(0, open < 0 ? waiting.length : open);
        length -= done.length;
        const last = done.at(-1);
        if (!last) continue;
        try {
          await last.message.commit();
        } catch (err) {
          // The partition may be another member's by now. It gets the messages again, and they count once.
          figures.errors++;
          logger.warn(
            { err, partition: last.message.partition },
            "offsets of progress could not be committed",
          );
        }
      }
    },
  };
}

async function tick(intervalMs: number, signal: AbortSignal, fn: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    // Aborted is over.
    await sleep(intervalMs, undefined, { signal, ref: false }).catch(() => {});
    // Figures that could not be read are those of before.
    if (!signal.aborted) await fn().catch(() => {});
  }
}

async function lagOf(consumer: Consumer, topic: string): Promise<number> {
  const lag = await consumer.getLag({ topics: [topic] });
  return (lag.get(topic) ?? []).reduce((sum, behind) => sum + Math.max(0, Number(behind)), 0);
}

function ignoreWhenClosing(logger: Logger) {
  return (err: unknown) => logger.debug({ err }, "a consumer of Kafka did not close well");
}
