import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { withTenant } from "../server/src/db/tenant.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { DeliveryStatus } from "../server/src/gen/pulsewire/webhooks/v1/delivery_pb.js";
import { WebhookDisabledReason } from "../server/src/gen/pulsewire/webhooks/v1/webhook_pb.js";
import { WebhooksService } from "../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { emitWebhookEvent } from "../server/src/webhooks/emit.ts";
import { createTestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { startReceiver, verified } from "./helpers/receiver.ts";
import { grpcSession, registerTenant, serve, startTestServer, type TestServer } from "./helpers/server.ts";

let server: TestServer;
let session: ReturnType<typeof grpcSession>;
before(async () => {
  server = await startTestServer({
    PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on",
    PULSEWIRE_WEBHOOKS_PER_TENANT: "5",
  });
  session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
});
after(async () => {
  session[Symbol.dispose]();
  await server.stop();
});
const webhooks = () => createClient(WebhooksService, session.transport);
const url = "https://receiver.example/hook";

describe("a webhook", () => {
  test("is made, read, listed, changed and deleted", async () => {
    const made = await webhooks().createWebhook({
      url,
      eventTypes: ["alert.*", "function.failed"],
      filter: { severities: ["critical"] },
      description: "On call",
      groupWait: { seconds: 30n },
    });
    const id = made.webhook?.id ?? "";
    assert.match(made.secret, /^whsec_[A-Za-z0-9+/]{43}=$/);
    assert.equal(made.webhook?.enabled, true);
    const { webhook } = await webhooks().getWebhook({ webhookId: id });
    assert.deepEqual(webhook, made.webhook);
    assert.deepEqual(webhook?.filter?.severities, ["critical"]);
    const listed = async (request: object) =>
      (await webhooks().listWebhooks(request)).webhooks.map((one) => one.id);
    assert.ok((await listed({ eventType: "alert.firing" })).includes(id));
    assert.ok(!(await listed({ eventType: "progress.completed" })).includes(id));
    assert.ok(!(await listed({ enabled: false })).includes(id));
    await assertFails(
      webhooks().updateWebhook({ webhookId: id, etag: "zz", description: "x" }),
      Code.Aborted,
      "ETAG_MISMATCH",
    );
    const { webhook: changed } = await webhooks().updateWebhook({
      webhookId: id,
      etag: webhook?.etag ?? "",
      updateMask: { paths: ["description", "filter", "enabled"] },
      enabled: false,
    });
    assert.equal(changed?.description, "");
    assert.deepEqual(changed?.filter?.severities, []);
    assert.equal(changed?.disabledReason, WebhookDisabledReason.BY_CALLER);
    assert.deepEqual(changed?.eventTypes, ["alert.*", "function.failed"]);
    assert.notEqual(changed?.etag, webhook?.etag);
    assert.deepEqual(await listed({ enabled: false }), [id]);
    await webhooks().deleteWebhook({ webhookId: id, etag: changed?.etag ?? "" });
    await assertFails(webhooks().getWebhook({ webhookId: id }), Code.NotFound, "NOT_FOUND");
  });

  test("lies in the database with its secret encrypted, which is told only once", async () => {
    await using sealing = await startTestServer({
      PULSEWIRE_KEY_ENCRYPTION_KEY: randomBytes(32).toString("base64"),
    });
    using own = grpcSession(sealing.url, { "x-api-key": sealing.tenant.apiKey });
    const client = createClient(WebhooksService, own.transport);
    const secret = `whsec_${randomBytes(24).toString("base64")}`;
    const requestId = randomUUID();
    const made = await client.createWebhook({ url, secret, requestId });
    assert.equal(made.secret, secret);
    assert.deepEqual(await client.createWebhook({ url, secret, requestId }), made);
    const stored = await withTenant(sealing.context.db, sealing.tenant.tenantId, (trx) =>
      trx.selectFrom("webhooks").selectAll().execute(),
    );
    assert.equal(stored.length, 1);
    assert.ok(stored.every((row) => row.secret.startsWith("ey") && !row.secret.includes(secret.slice(6))));
    const audit = await createClient(AuthService, own.transport).listAuditEntries({
      filter: { resourceType: "webhook" },
    });
    assert.equal(audit.auditEntries.length, 1);
    assert.equal(audit.auditEntries[0]?.resourceId, made.webhook?.id);
    assert.ok(!JSON.stringify(audit.auditEntries[0]?.details).includes(secret.slice(6)));
  });

  test("is refused where its address or secret cannot be used, or there are too many", async () => {
    await assertFails(
      webhooks().createWebhook({ url: "https://user@receiver.example" }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    await assertFails(
      webhooks().createWebhook({ url, secret: `whsec_${"A".repeat(33)}` }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    await assertFails(
      webhooks().createWebhook({ url, eventTypes: ["nothing.at.all"] }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    const made = await Promise.allSettled(Array.from({ length: 8 }, () => webhooks().createWebhook({ url })));
    const fulfilled = made.flatMap((one) =>
      one.status === "fulfilled" ? [one.value.webhook?.id ?? ""] : [],
    );
    assert.equal(fulfilled.length, 5);
    await assertFails(webhooks().createWebhook({ url }), Code.ResourceExhausted, "TENANT_LIMIT");
    const { webhooks: first, nextPageToken } = await webhooks().listWebhooks({ pageSize: 3 });
    const { webhooks: rest } = await webhooks().listWebhooks({ pageSize: 3, pageToken: nextPageToken });
    assert.deepEqual(
      [...first, ...rest].map(({ id }) => id),
      fulfilled.toSorted().toReversed(),
    );
    for (const webhookId of fulfilled) await webhooks().deleteWebhook({ webhookId });
  });

  test("is nothing for a key that is bound to stores", async () => {
    const auth = createClient(AuthService, session.transport);
    const { store } = await createClient(MetricsService, session.transport).createStore({ name: "bound" });
    const bound = await auth.createApiKey({
      name: "bound",
      scopes: [Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE],
      storeIds: [store?.id ?? ""],
    });
    using asBound = grpcSession(server.url, { "x-api-key": bound.secret });
    const client = createClient(WebhooksService, asBound.transport);
    await assertFails(client.listWebhooks({}), Code.PermissionDenied, "KEY_RESTRICTED");
    await assertFails(client.listDeliveries({}), Code.PermissionDenied, "KEY_RESTRICTED");
    await assertFails(client.createWebhook({ url }), Code.PermissionDenied, "KEY_RESTRICTED");
  });
});

describe("the secret", () => {
  test("signs so that the library of receivers agrees, during a change both secrets do", async () => {
    await using receiver = await startReceiver();
    const made = await webhooks().createWebhook({ url: receiver.url });
    const webhookId = made.webhook?.id ?? "";
    const { delivery } = await webhooks().testWebhook({ webhookId, eventType: "alert.firing" });
    assert.equal(delivery?.status, DeliveryStatus.DELIVERED);
    assert.equal(delivery?.attempts[0]?.responseStatus, 204);
    const [first] = await receiver.has(1);
    assert.ok(first);
    assert.equal(verified(made.secret, first).type, "alert.firing");
    assert.equal(first.headers["webhook-id"], delivery?.messageId);
    assert.throws(() => verified(made.secret, { ...first, body: `${first.body} ` }));

    const rotated = await webhooks().rotateWebhookSecret({ webhookId });
    assert.notEqual(rotated.secret, made.secret);
    assert.ok(rotated.webhook?.previousSecretExpiresAt);
    await webhooks().testWebhook({ webhookId });
    const second = receiver.received[1];
    assert.ok(second);
    assert.equal(verified(made.secret, second).type, "webhook.test");
    assert.equal(verified(rotated.secret, second).type, "webhook.test");

    const again = await webhooks().rotateWebhookSecret({ webhookId, overlap: { seconds: 0n } });
    assert.equal(again.webhook?.previousSecretExpiresAt, undefined);
    await webhooks().testWebhook({ webhookId });
    const third = receiver.received[2];
    assert.ok(third);
    verified(again.secret, third);
    assert.throws(() => verified(rotated.secret, third));
    await webhooks().deleteWebhook({ webhookId });
  });
});

describe("a test message", () => {
  test("goes to a disabled webhook too, tells what came of it, and is tried once", async () => {
    await using receiver = await startReceiver();
    const { webhook } = await webhooks().createWebhook({ url: receiver.url, disabled: true });
    const webhookId = webhook?.id ?? "";
    receiver.behave((_, response) => response.writeHead(503).end(Buffer.from([0x6e, 0x6f, 0x00, 0xff])));
    const { delivery } = await webhooks().testWebhook({ webhookId });
    assert.equal(delivery?.status, DeliveryStatus.FAILED);
    assert.equal(delivery?.test, true);
    assert.equal(delivery?.attempts[0]?.responseStatus, 503);
    assert.equal(delivery?.attempts[0]?.responseBody, "no\uFFFD\uFFFD");
    const { deliveries } = await webhooks().listDeliveries({ webhookId });
    assert.deepEqual(
      deliveries.map(({ id }) => id),
      [delivery?.id],
    );
    for (let i = 0; i < 9; i++) await webhooks().testWebhook({ webhookId });
    await assertFails(webhooks().testWebhook({ webhookId }), Code.ResourceExhausted, "RATE_LIMITED");
    assert.equal(receiver.received.length, 10);
    await webhooks().deleteWebhook({ webhookId });
    // Its deliveries outlive it.
    assert.equal((await webhooks().listDeliveries({ webhookId })).deliveries.length, 10);
  });
});

describe("the outbox", () => {
  test("reaches who asks for the type and passes the filter, and nobody else", async () => {
    await using receiver = await startReceiver();
    const make = async (name: string, eventTypes: string[], filter = {}) => {
      const { webhook } = await webhooks().createWebhook({
        url: `${receiver.url}/${name}`,
        eventTypes,
        filter,
      });
      return webhook?.id ?? "";
    };
    const ids = [
      await make("all", ["*"]),
      await make("failed", ["function.failed"], { functionNames: ["web"] }),
      await make("severe", ["alert.*", "event.*"], { severities: ["critical"] }),
      await make("none", []),
    ];
    const { tenantId } = server.tenant;
    const subject = { function_id: randomUUID(), name: "web" };
    await withTenant(server.context.db, tenantId, async (trx) => {
      await emitWebhookEvent(trx, tenantId, "function.created", subject);
      await emitWebhookEvent(trx, tenantId, "function.failed", { ...subject, reason: "no image" });
      await emitWebhookEvent(trx, tenantId, "function.failed", {
        ...subject,
        name: "other",
        reason: "no image",
      });
      await emitWebhookEvent(trx, tenantId, "event.processed", {
        event_id: "1",
        event_type: "x",
        severity: "info",
      });
      await emitWebhookEvent(trx, tenantId, "event.processed", {
        event_id: "2",
        event_type: "x",
        severity: "critical",
      });
    });
    await receiver.has(7);
    const paths = Map.groupBy(receiver.received, ({ path }) => path.replace("/hook/", ""));
    assert.deepEqual(Object.fromEntries([...paths].map(([path, some]) => [path, some.length])), {
      all: 5,
      failed: 1,
      severe: 1,
    });
    await delivered(7);
    const about = await webhooks().listDeliveries({ subjectId: subject.function_id });
    assert.equal(about.deliveries.length, 4);
    const failed = about.deliveries.find((one) => one.eventType === "function.failed");
    const { delivery } = await webhooks().getDelivery({ deliveryId: failed?.id ?? "" });
    assert.equal(delivery?.payload?.type, "function.failed");
    assert.equal(delivery?.attempts.length, 1);
    for (const webhookId of ids) await webhooks().deleteWebhook({ webhookId });
  });

  test("a delivery can be replayed, unless its webhook is gone", async () => {
    await using receiver = await startReceiver();
    const { webhook, secret } = await webhooks().createWebhook({
      url: receiver.url,
      eventTypes: ["function.deleted"],
    });
    const { tenantId } = server.tenant;
    const eventId = await withTenant(server.context.db, tenantId, (trx) =>
      emitWebhookEvent(trx, tenantId, "function.deleted", { function_id: randomUUID(), name: "web" }),
    );
    await receiver.has(1);
    const { deliveries } = await webhooks().listDeliveries({ webhookId: webhook?.id ?? "" });
    const deliveryId = deliveries[0]?.id ?? "";
    const { delivery } = await webhooks().replayDelivery({ deliveryId });
    assert.equal(delivery?.replayOf, deliveryId);
    const [first, second] = await receiver.has(2);
    assert.ok(first && second);
    assert.equal(first.headers["webhook-id"], eventId);
    assert.equal(second.headers["webhook-id"], eventId);
    assert.deepEqual(verified(secret, second), verified(secret, first));
    await webhooks().updateWebhook({ webhookId: webhook?.id ?? "", enabled: false });
    await assertFails(
      webhooks().replayDelivery({ deliveryId }),
      Code.FailedPrecondition,
      "FAILED_PRECONDITION",
    );
    await webhooks().deleteWebhook({ webhookId: webhook?.id ?? "" });
    await assertFails(
      webhooks().replayDelivery({ deliveryId }),
      Code.FailedPrecondition,
      "FAILED_PRECONDITION",
    );
    await assertFails(webhooks().replayDelivery({ deliveryId: randomUUID() }), Code.NotFound, "NOT_FOUND");
  });
});

/** Waits until so many deliveries are recorded as delivered. */
async function delivered(count: number): Promise<void> {
  for (;;) {
    const { deliveries } = await webhooks().listDeliveries({
      statuses: [DeliveryStatus.DELIVERED],
      pageSize: 1_000,
    });
    if (deliveries.filter(({ test }) => !test).length >= count) return;
  }
}

test("secrets are encrypted anew when the operator changes the key, and the old key can go", async () => {
  const [old, next] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")];
  await using database = await createTestDatabase();
  const settings = { PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on" };
  await using receiver = await startReceiver();
  let credentials: Record<string, string>;
  let webhookId: string;
  let secret: string;
  {
    await using before = await serve(database, { ...settings, PULSEWIRE_KEY_ENCRYPTION_KEY: old });
    credentials = { "x-api-key": (await registerTenant(before.url, "first")).apiKey };
    using own = grpcSession(before.url, credentials);
    const made = await createClient(WebhooksService, own.transport).createWebhook({ url: receiver.url });
    webhookId = made.webhook?.id ?? "";
    secret = made.secret;
  }
  const sealed = async () =>
    (await database.superuser.query("select secret from pulsewire.webhooks")).rows[0].secret;
  const first = await sealed();
  {
    await using _both = await serve(database, {
      ...settings,
      PULSEWIRE_KEY_ENCRYPTION_KEY: `${next},${old}`,
    });
    while ((await sealed()) === first) await new Promise((done) => setTimeout(done, 20));
  }
  await using after = await serve(database, { ...settings, PULSEWIRE_KEY_ENCRYPTION_KEY: next });
  using own = grpcSession(after.url, credentials);
  await createClient(WebhooksService, own.transport).testWebhook({ webhookId });
  const [received] = await receiver.has(1);
  assert.ok(received);
  verified(secret, received);
});
