/** The background work of webhooks and notifications. */
import type { Context } from "../context.ts";
import { startLoop } from "../jobs/loop.ts";
import type { Worker } from "../jobs/workers.ts";
import type { Resolve } from "../net/allowed.ts";
import { createChannels } from "./channels/channels.ts";
import { expandOutbox } from "./expand.ts";
import { countWaiting } from "./figures.ts";
import { resealSecrets } from "./reseal.ts";
import { createSender } from "./sender.ts";
import { sweepDeliveries } from "./sweep.ts";

/** What tests say otherwise. */
export interface DeliveryOverrides {
  /** The clock: when something is due, was made and has ended. */
  readonly now?: () => number;
  readonly resolve?: Resolve;
}

export interface DeliveryWorker extends Worker {
  /** Looks for what is due now. */
  wake(): void;
}

/** How often the outbox is looked at. */
const outboxIdleMs = 300;
const sweepIdleMs = 3_600_000;
/** How often the log says what waits. */
const figuresIdleMs = 60_000;

/** Makes deliveries of what was emitted, sends them, and deletes those that are old. */
export function startDeliveries(context: Context, overrides: DeliveryOverrides = {}): DeliveryWorker {
  const { config, db, keyring, logger } = context;
  const { now = Date.now } = overrides;
  const own = Object.keys(overrides).length > 0 ? createChannels({ ...context, ...overrides }) : undefined;
  const { deliver } = own ?? context.channels;
  const sender = createSender({
    db,
    logger,
    settings: config.webhooks,
    deliver,
    now,
    counter: context.deliveryAttempts,
  });
  const outbox = startLoop({
    name: "webhook outbox",
    idleMs: outboxIdleMs,
    logger,
    async step() {
      const taken = await expandOutbox(db, config.webhooks, now);
      if (taken > 0) sender.wake();
      return taken > 0 ? "more" : "idle";
    },
  });
  let isResealed = false;
  const sweep = startLoop({
    name: "webhook upkeep",
    idleMs: sweepIdleMs,
    logger,
    async step() {
      if (!isResealed) {
        const webhooks = await resealSecrets(db, keyring);
        if (webhooks > 0) logger.info({ webhooks }, "secrets of webhooks were encrypted anew");
        isResealed = true;
      }
      return (await sweepDeliveries(db, new Date(now() - config.webhooks.keptMs))) > 0 ? "more" : "idle";
    },
  });
  const figures = startLoop({
    name: "delivery figures",
    idleMs: figuresIdleMs,
    logger,
    async step() {
      const waiting = await countWaiting(db, new Date(now()));
      if (waiting.length > 0) logger.info({ waiting }, "deliveries that wait");
      return "idle";
    },
  });
  return {
    wake: sender.wake,
    async close() {
      await Promise.all([outbox.close(), sweep.close(), figures.close()]);
      await sender.close();
      own?.close();
    },
  };
}
