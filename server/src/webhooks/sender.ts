/**
 * Sends what is due:
 *
 *   claim (one transaction) → attempts side by side → results gathered → recorded (one transaction)
 *
 * A process that dies leaves claims that lapse; what it had sent and not recorded is sent again. Nothing is ever taken out
 * of the queue but by its result.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { WebhooksConfig } from "../config/webhooks.ts";
import type { DeliveryChannel } from "../db/schema/webhooks.ts";
import type { Database } from "../db/schema.ts";
import { type Loop, startLoop } from "../jobs/loop.ts";
import { attempt, resultOf } from "./attempt.ts";
import type { Deliver } from "./channels/outcome.ts";
import { type ClaimedDelivery, claimDue } from "./claim.ts";
import type { AttemptCounter } from "./figures.ts";
import { createReceivers } from "./receivers.ts";
import { createRecorder } from "./recorder.ts";

export interface SenderOptions {
  readonly db: Kysely<Database>;
  readonly logger: Logger;
  readonly settings: WebhooksConfig;
  readonly deliver: Readonly<Record<DeliveryChannel, Deliver>>;
  /** The clock that decides what is due. */
  readonly now: () => number;
  /** Counts what became of attempts. */
  readonly counter?: AttemptCounter | undefined;
}

export interface Sender {
  /** Looks for work now. */
  wake(): void;
  /** Gives attempts under way a little time, gives back what is not finished, and ends. */
  close(): Promise<void>;
}

/** How often the queue is looked at when nobody tells of work. */
const idleMs = 500;
/** A claim lapses after so many times the longest attempt: time to try, and to record. */
const leaseTimeouts = 3;
/** The longest pause that a receiver's `Retry-After` means for everything that waits for it. */
const maxPauseMs = 3_600_000;
/** How long closing waits for attempts under way. */
const closeMs = 3_000;

export function createSender({ db, logger, settings, deliver, now, counter }: SenderOptions): Sender {
  const receivers = createReceivers(settings);
  const leaseMs = settings.timeoutMs * leaseTimeouts;
  const stopping = new AbortController();
  const { signal } = stopping;
  const recorder = createRecorder({ db, logger, settings, leaseMs, signal });
  const running = new Set<Promise<void>>();
  /** What is claimed and waits until its receiver may be given more. */
  const lanes = new Map<string, ClaimedDelivery[]>();

  const giveBack = (delivery: ClaimedDelivery) =>
    recorder.record({
      delivery,
      attempt: undefined,
      gone: false,
      atMs: now(),
      status: delivery.attempts === 0 ? "PENDING" : "RETRYING",
      dueMs: now(),
    });

  const run = async (delivery: ClaimedDelivery) => {
    const { receiver, channel } = delivery;
    if (channel === "HTTP" && !delivery.webhook) {
      // Deleted or disabled just when this delivery was made.
      receivers.end(receiver, { accepted: false });
      const untried = { delivery, attempt: undefined, gone: false, atMs: now() };
      return await recorder.record({ ...untried, status: "DISCARDED", dueMs: undefined });
    }
    try {
      const { outcome, made } = await attempt(deliver[channel], delivery, { now, signal, logger });
      const { accepted, retryAfterMs = 0 } = outcome;
      const pausedUntilMs = retryAfterMs > 0 ? now() + Math.min(retryAfterMs, maxPauseMs) : 0;
      receivers.end(receiver, { accepted, tookMs: made.durationMs, pausedUntilMs });
      follow(receiver);
      const result = resultOf(settings, delivery, outcome, made, now());
      await recorder.record(result);
      counter?.count(channel, result.status);
    } catch {
      // Only closing ends an attempt: another process goes on at once.
      receivers.end(receiver, { accepted: false });
      await giveBack(delivery);
    }
  };

  /** Keeps a claim's work in mind until it is recorded. */
  const track = ({ receiver }: ClaimedDelivery, work: Promise<void>) => {
    const tracked = work.finally(() => {
      receivers.release(receiver);
      running.delete(tracked);
      loop.wake();
    });
    running.add(tracked);
  };

  /** Begins what a receiver may be given; for one that fails or is slow nothing waits here. */
  const follow = (receiver: string) => {
    const lane = lanes.get(receiver) ?? [];
    if (receivers.isSlow(receiver) || isClosing) {
      lanes.delete(receiver);
      for (const delivery of lane) track(delivery, giveBack(delivery));
      return;
    }
    while (lane.length > 0 && receivers.start(receiver)) {
      const delivery = lane.shift();
      if (delivery) track(delivery, run(delivery));
    }
    if (lane.length === 0) lanes.delete(receiver);
  };
  let isClosing = false;

  const loop: Loop = startLoop({
    name: "deliveries",
    idleMs,
    logger,
    async step() {
      if (receivers.claimed >= settings.maxConcurrent) return "idle";
      const nowMs = now();
      const claimed = await claimDue(db, {
        choose: (waiting) => receivers.choose(waiting, nowMs),
        claim: randomUUID(),
        nowMs,
        leaseEndMs: nowMs + leaseMs,
      });
      for (const delivery of claimed) {
        const { receiver } = delivery;
        receivers.claim(receiver);
        if (receivers.start(receiver)) track(delivery, run(delivery));
        else lanes.set(receiver, [...(lanes.get(receiver) ?? []), delivery]);
      }
      return claimed.length > 0 ? "more" : "idle";
    },
  });

  return {
    wake: loop.wake,
    async close() {
      await loop.close();
      isClosing = true;
      for (const receiver of [...lanes.keys()]) follow(receiver);
      const timer = new AbortController();
      const late = sleep(closeMs, undefined, { signal: timer.signal }).catch(() => {});
      await Promise.race([Promise.allSettled(running), late]).finally(() => timer.abort());
      stopping.abort();
      await Promise.allSettled(running);
    },
  };
}
