import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import type { KyselyPlugin } from "kysely";
import { DeliveryStatus } from "../server/src/gen/pulsewire/webhooks/v1/delivery_pb.js";
import { startDeliveries } from "../server/src/webhooks/worker.ts";
import { functionEvent, startPost } from "./helpers/deliveries.ts";
import { type Received, startReceiver } from "./helpers/receiver.ts";
import { settingsFor } from "./helpers/server.ts";
import { startServerProcess } from "./helpers/server-process.ts";

type Post = Awaited<ReturnType<typeof startPost>>;

/** Every event has reached every receiver, and its delivery is recorded as accepted once and no more. */
async function assertDelivered(
  post: Post,
  events: readonly string[],
  receivers: ReadonlyMap<string, readonly Received[]>,
): Promise<void> {
  for (const [webhookId, received] of receivers) {
    const seen = new Set(received.map(({ headers }) => headers["webhook-id"]));
    assert.deepEqual(new Set(events).difference(seen), new Set(), `lost on the way to ${webhookId}`);
    const { deliveries } = await post.webhooks.listDeliveries({ webhookId, pageSize: 1_000 });
    assert.deepEqual(deliveries.map(({ messageId }) => messageId).toSorted(), events.toSorted());
    for (const { id } of deliveries) {
      const { delivery } = await post.webhooks.getDelivery({ deliveryId: id });
      assert.equal(delivery?.status, DeliveryStatus.DELIVERED);
      assert.equal(delivery?.attempts.filter(({ error }) => error === "").length, 1);
      assert.equal(delivery?.attempts.length, delivery?.attemptCount);
    }
  }
}

test("a worker that is killed again and again loses nothing, and records each success once", async () => {
  await using post = await startPost({ PULSEWIRE_WEBHOOK_TIMEOUT: "1" });
  await using steady = await startReceiver();
  await using shaky = await startReceiver();
  await using slow = await startReceiver();
  shaky.behave((_, response) => response.writeHead(Math.random() < 0.2 ? 500 : 204).end());
  slow.behave((_, response) => setTimeout(() => response.writeHead(204).end(), 150));
  const receivers = new Map<string, readonly Received[]>();
  for (const { url, received } of [steady, shaky, slow]) {
    const { webhook } = await post.webhooks.createWebhook({ url, eventTypes: ["function.created"] });
    receivers.set(webhook?.id ?? "", received);
  }
  const settings = {
    ...settingsFor(post.server.database),
    PULSEWIRE_ROLE: "worker",
    PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on",
    PULSEWIRE_WEBHOOK_TIMEOUT: "1",
    LOG_LEVEL: "info",
  };
  const events: string[] = [];
  const emitting = (async () => {
    for (let i = 0; i < 120; i++) {
      events.push(await post.emit("function.created", functionEvent()));
      await sleep(15);
    }
  })();
  for (let round = 0; round < 3; round++) {
    const before = slow.received.length;
    await using worker = await startServerProcess(settings);
    // Killed in the middle of its work.
    await slow.has(before + 6 + round * 5);
    await worker.kill();
  }
  await emitting;
  await using worker = await startServerProcess(settings);
  await post.settled();
  await assertDelivered(post, events, receivers);
  await worker.stop();
});

/** Fails every statement after the first so many, as a process does that is cut off from its database. */
function cutAfter(statements: number): KyselyPlugin {
  let run = 0;
  return {
    transformQuery({ node }) {
      if (++run > statements) throw new Error("cut off from the database");
      return node;
    },
    async transformResult({ result }) {
      return result;
    },
  };
}

describe("whatever receivers answer and wherever workers are cut off", () => {
  test("each event reaches each receiver, and each success is recorded once", async () => {
    await using post = await startPost({ PULSEWIRE_WEBHOOK_TIMEOUT: "1" });
    const status = fc.constantFrom(200, 204, 400, 429, 500, 503);
    const property = fc.asyncProperty(
      fc.array(fc.array(status, { maxLength: 6 }), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 1, max: 12 }),
      fc.array(fc.integer({ min: 1, max: 30 }), { maxLength: 4 }),
      async (answers, count, cuts) => {
        const type = "function.created" as const;
        const name = randomUUID().slice(0, 8);
        await using hosts = new AsyncDisposableStack();
        const receivers = new Map<string, readonly Received[]>();
        for (const statuses of answers) {
          const receiver = hosts.use(await startReceiver());
          const left = [...statuses];
          receiver.behave((_, response) => response.writeHead(left.shift() ?? 204).end());
          const { webhook } = await post.webhooks.createWebhook({
            url: receiver.url,
            eventTypes: [type],
            filter: { functionNames: [name] },
          });
          receivers.set(webhook?.id ?? "", receiver.received);
        }
        const events: string[] = [];
        for (let i = 0; i < count; i++) events.push(await post.emit(type, functionEvent(name)));
        // What is cut off goes on running beside those that come after it, as it does in another process.
        const workers = cuts.map(
          (statements) => () =>
            startDeliveries(
              { ...post.server.context, db: post.server.context.db.withPlugin(cutAfter(statements)) },
              { now: post.now },
            ),
        );
        const running = [];
        for (const start of workers) {
          running.push(start());
          await sleep(60);
          post.skip(2_000);
        }
        await using last = post.start();
        while (!(await isSettled(post))) {
          post.skip(4_000);
          last.wake();
          await sleep(20);
        }
        await assertDelivered(post, events, receivers);
        for (const webhookId of receivers.keys()) await post.webhooks.deleteWebhook({ webhookId });
        await Promise.all(running.map((worker) => worker.close()));
      },
    );
    await fc.assert(property, { numRuns: 8, endOnFailure: true });
  });
});

async function isSettled({ server }: Post): Promise<boolean> {
  const { rowCount } = await server.database.superuser.query(
    `select from pulsewire.webhook_events union all select from pulsewire.deliveries where due_at is not null limit 1`,
  );
  return rowCount === 0;
}
