import assert from "node:assert/strict";
import { test } from "node:test";
import { DeliveryStatus } from "../server/src/gen/pulsewire/webhooks/v1/delivery_pb.js";
import { WebhookDisabledReason } from "../server/src/gen/pulsewire/webhooks/v1/webhook_pb.js";
import { createReceivers } from "../server/src/webhooks/receivers.ts";
import { nextAttemptMs, readRetryAfter } from "../server/src/webhooks/schedule.ts";
import { functionEvent, startPost } from "./helpers/deliveries.ts";
import { startReceiver } from "./helpers/receiver.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;

test("a receiver that is down for an hour gets everything once it is back, each recorded once", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  receiver.behave(503);
  const { webhook } = await post.webhooks.createWebhook({ url: receiver.url, eventTypes: ["function.*"] });
  await using _worker = post.start();
  const began = post.now();
  const ids: string[] = [];
  for (let i = 0; i < 12; i++) ids.push(await post.emit("function.created", functionEvent()));
  await post.settled({ jumpMs: hour, until: async () => post.now() - began > hour });
  const failed = receiver.received.length;
  assert.ok(failed > 12 * 4, `${failed} attempts`);
  receiver.behave(204);
  await post.settled({ jumpMs: minute });
  assert.deepEqual(
    new Set(receiver.received.slice(failed).map(({ headers }) => headers["webhook-id"])),
    new Set(ids),
  );
  const { deliveries } = await post.webhooks.listDeliveries({ webhookId: webhook?.id ?? "" });
  assert.equal(deliveries.length, 12);
  for (const { id } of deliveries) {
    const { delivery } = await post.webhooks.getDelivery({ deliveryId: id });
    assert.equal(delivery?.status, DeliveryStatus.DELIVERED);
    assert.equal(delivery?.attempts.filter(({ error }) => error === "").length, 1);
    assert.deepEqual(
      delivery?.attempts.map(({ number, responseStatus }) => [number, responseStatus]),
      delivery?.attempts.map((_, index, all) => [index + 1, index === all.length - 1 ? 204 : 503]),
    );
  }
  const { webhook: after } = await post.webhooks.getWebhook({ webhookId: webhook?.id ?? "" });
  assert.equal(after?.pendingDeliveries, 0n);
  assert.ok(after?.lastSuccessAt && after.lastFailureAt);
});

test("what is never accepted is given up after three days, and can be replayed", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  receiver.behave(500);
  await post.webhooks.createWebhook({ url: receiver.url, eventTypes: ["*"] });
  await using _worker = post.start();
  const began = post.now();
  await post.emit("function.created", functionEvent());
  await post.settled({ jumpMs: day });
  assert.ok(post.now() - began >= 3 * day);
  const { deliveries } = await post.webhooks.listDeliveries({ statuses: [DeliveryStatus.FAILED] });
  const [failed] = deliveries;
  assert.ok(failed && failed.attemptCount > 15, `${failed?.attemptCount} attempts`);
  assert.equal(failed.attempts.length, 1);
  assert.equal(failed.attempts[0]?.number, failed.attemptCount);
  receiver.behave(204);
  await post.webhooks.replayDelivery({ deliveryId: failed.id });
  await post.settled();
  assert.equal(receiver.received.at(-1)?.headers["webhook-id"], failed.messageId);
});

test("410 disables at once, five days of failures do too, and what waits is discarded", async () => {
  await using post = await startPost();
  await using gone = await startReceiver();
  await using failing = await startReceiver();
  failing.behave(500);
  const make = async (url: string, eventTypes: string[]) =>
    (await post.webhooks.createWebhook({ url, eventTypes })).webhook?.id ?? "";
  const goneId = await make(gone.url, ["function.created"]);
  const failingId = await make(failing.url, ["function.updated"]);
  const reasonOf = async (webhookId: string) =>
    (await post.webhooks.getWebhook({ webhookId })).webhook?.disabledReason;
  await using _worker = post.start();
  gone.behave((_, response) => {
    // The others are still under way, or wait.
    setTimeout(() => response.writeHead(410).end(), 50);
  });
  for (let i = 0; i < 20; i++) await post.emit("function.created", functionEvent());
  await post.settled();
  assert.equal(await reasonOf(goneId), WebhookDisabledReason.GONE);
  const { deliveries } = await post.webhooks.listDeliveries({ webhookId: goneId });
  assert.ok(deliveries.some(({ status }) => status === DeliveryStatus.FAILED));
  assert.ok(deliveries.some(({ status }) => status === DeliveryStatus.DISCARDED));
  assert.equal(deliveries.length, 20);
  await post.emit("function.created", functionEvent());
  await post.settled();
  assert.equal((await post.webhooks.listDeliveries({ webhookId: goneId })).deliveries.length, 20);

  const began = post.now();
  await post.emit("function.updated", functionEvent());
  await post.settled({ jumpMs: hour });
  assert.equal(await reasonOf(failingId), WebhookDisabledReason.UNSPECIFIED);
  await post.emit("function.updated", functionEvent());
  await post.settled({ jumpMs: hour });
  assert.equal(await reasonOf(failingId), WebhookDisabledReason.FAILING);
  assert.ok(post.now() - began >= 5 * day);
  const { webhook } = await post.webhooks.updateWebhook({ webhookId: goneId, enabled: true });
  assert.equal(webhook?.disabledReason, WebhookDisabledReason.UNSPECIFIED);
  assert.equal(webhook?.disabledAt, undefined);
});

test("Retry-After is kept, for all that waits for the receiver", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  receiver.behave((_, response) => response.writeHead(429, { "retry-after": "600" }).end());
  await post.webhooks.createWebhook({ url: receiver.url, eventTypes: ["*"] });
  await using _worker = post.start();
  await post.emit("function.created", functionEvent());
  await receiver.has(1);
  const isTried = async () => {
    const { deliveries } = await post.webhooks.listDeliveries({});
    return deliveries.some(({ attemptCount }) => attemptCount === 1);
  };
  await post.settled({ until: isTried });
  const { deliveries } = await post.webhooks.listDeliveries({});
  const wait = Number(deliveries[0]?.nextAttemptAt?.seconds) * 1_000 - post.now();
  assert.ok(wait > 590_000 && wait < 670_000, `${wait} ms`);
  for (let i = 0; i < 5; i++) await post.emit("function.created", functionEvent());
  post.skip(5 * minute);
  await post.settled({ until: async () => (await post.webhooks.listDeliveries({})).deliveries.length === 6 });
  await new Promise((next) => setTimeout(next, 1_200));
  assert.equal(receiver.received.length, 1);
  receiver.behave(204);
  post.skip(6 * minute);
  await post.settled({ jumpMs: minute });
  assert.equal(receiver.received.length, 7);
});

test("slow and silent receivers delay nobody else", async () => {
  await using post = await startPost({ PULSEWIRE_WEBHOOK_TIMEOUT: "5", PULSEWIRE_WEBHOOK_CONCURRENCY: "40" });
  await using slow = await startReceiver();
  await using quick = await startReceiver();
  slow.behave(() => {});
  for (let i = 0; i < 8; i++)
    await post.webhooks.createWebhook({ url: `${slow.url}/${i}`, eventTypes: ["function.created"] });
  await post.webhooks.createWebhook({ url: quick.url, eventTypes: ["function.updated"] });
  for (let i = 0; i < 40; i++) await post.emit("function.created", functionEvent());
  await using _worker = post.start();
  await slow.has(8);
  const began = performance.now();
  for (let i = 0; i < 100; i++) await post.emit("function.updated", functionEvent());
  await quick.has(100);
  const took = performance.now() - began;
  assert.ok(took < 4_000, `${took} ms`);
  assert.ok(slow.received.length <= 8 * 4);
});

test("an address that is changed gets what waits, and redirects are not followed", async () => {
  await using post = await startPost();
  await using old = await startReceiver();
  await using next = await startReceiver();
  old.behave((_, response) => response.writeHead(307, { location: next.url }).end());
  const { webhook } = await post.webhooks.createWebhook({ url: old.url, eventTypes: ["*"] });
  await using _worker = post.start();
  await post.emit("function.created", functionEvent());
  await old.has(2).catch(() => {});
  post.skip(minute);
  await old.has(2);
  assert.equal(next.received.length, 0);
  await post.webhooks.updateWebhook({ webhookId: webhook?.id ?? "", url: next.url });
  await post.settled({ jumpMs: minute });
  assert.equal(next.received.length, 1);
  const { deliveries } = await post.webhooks.listDeliveries({});
  assert.equal(deliveries[0]?.destination, next.url);
  const { delivery } = await post.webhooks.getDelivery({ deliveryId: deliveries[0]?.id ?? "" });
  assert.match(delivery?.attempts[0]?.error ?? "", /307; redirects are not followed/);
});

test("deliveries are deleted when their time is over", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  await post.webhooks.createWebhook({ url: receiver.url, eventTypes: ["*"] });
  {
    await using _worker = post.start();
    for (let i = 0; i < 5; i++) await post.emit("function.created", functionEvent());
    await post.settled();
  }
  const count = async () => (await post.webhooks.listDeliveries({})).deliveries.length;
  post.skip(29 * day);
  {
    await using _worker = post.start();
    await post.emit("function.created", functionEvent());
    await post.settled();
    assert.equal(await count(), 6);
  }
  post.skip(2 * day);
  await using _worker = post.start();
  while ((await count()) > 1) await new Promise((next) => setTimeout(next, 20));
  assert.equal(await count(), 1);
});

test("the schedule: doubling pauses that vary by a fifth, for three days", () => {
  const rules = { retryForMs: 3 * day, retryMinMs: 5_000, retryMaxMs: 6 * hour };
  for (const random of [0, 0.5, 0.999]) {
    const pauses: number[] = [];
    let nowMs = 0;
    for (let attempts = 1; ; attempts++) {
      const next = nextAttemptMs(rules, { createdMs: 0, nowMs, attempts }, () => random);
      if (next === undefined) break;
      pauses.push(next - nowMs);
      nowMs = next;
    }
    assert.equal(nowMs, 3 * day);
    assert.ok(pauses.length > 15 && pauses.length < 30, `${pauses.length} attempts`);
    assert.ok(pauses.every((pause) => pause <= 6 * hour * 1.2));
    assert.equal(pauses[0], 5_000 * (0.8 + 0.4 * random));
  }
  const late = { createdMs: 0, nowMs: 0, attempts: 1, retryAfterMs: 3_600_000 };
  assert.ok((nextAttemptMs(rules, late) ?? 0) >= 3_600_000);
  assert.equal(readRetryAfter("120", 0), 120_000);
  assert.equal(readRetryAfter(new Date(90_000).toUTCString(), 30_000), 60_000);
  assert.equal(readRetryAfter("soon", 0), undefined);
});

test("places: everyone's first before anyone's second, a quarter kept from those that are slow", () => {
  const receivers = createReceivers({ maxConcurrent: 8, maxConcurrentPerReceiver: 3 });
  const waiting = (...names: string[]) =>
    names.map((receiver, dueMs) => ({ tenantId: "t", receiver, dueMs }));
  const chosen = (...names: string[]) =>
    receivers.choose(waiting(...names), 1_000).map(({ receiver, limit }) => `${receiver}${limit}`);
  const begin = (name: string) => {
    receivers.claim(name);
    return receivers.start(name);
  };
  const end = (name: string, ended: Parameters<typeof receivers.end>[1]) => {
    receivers.end(name, ended);
    receivers.release(name);
  };
  assert.deepEqual(chosen("a", "b"), ["a1", "b1"]);
  for (const name of ["a", "b"]) assert.ok(begin(name));
  assert.ok(!receivers.start("a"));
  end("a", { accepted: true, tookMs: 5 });
  end("b", { accepted: true, tookMs: 5_000 });
  assert.deepEqual(chosen("b", "a"), ["b1", "a2"]);
  const slow = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"];
  for (const name of slow) begin(name);
  for (const name of slow) end(name, { accepted: false, tookMs: 1 });
  assert.equal(chosen(...slow).length, 6);
  assert.deepEqual(chosen(...slow, "a").length, 7);
  for (const name of slow.slice(0, 6)) begin(name);
  assert.deepEqual(chosen(...slow, "a", "c"), ["a1", "c1"]);
  // One that asks to be left alone is, until it accepts again.
  begin("p");
  end("p", { accepted: false, tookMs: 1, pausedUntilMs: 5_000 });
  end("s1", { accepted: true, tookMs: 1 });
  assert.deepEqual(chosen("p", "a"), ["a2"]);
  for (const name of slow.slice(1, 6)) end(name, { accepted: false, tookMs: 1 });
  // One that takes all it can get is claimed for ahead.
  begin("a");
  end("a", { accepted: true, tookMs: 5 });
  assert.deepEqual(chosen("a"), ["a8"]);
});
