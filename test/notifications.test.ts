import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { Comparison, type NotificationTarget } from "../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Channel, DeliveryStatus } from "../server/src/gen/pulsewire/webhooks/v1/delivery_pb.js";
import { alertEvent, startPost } from "./helpers/deliveries.ts";
import { assertFails } from "./helpers/errors.ts";
import { startReceiver, verified } from "./helpers/receiver.ts";
import { grpcSession } from "./helpers/server.ts";
import { startMailServer } from "./helpers/smtp.ts";
import { startWhatsApp } from "./helpers/whatsapp.ts";

const minute = 60_000;
const token = "EAAG-not-a-real-token";
const phoneNumberId = "106540352242922";
const target = (value: NotificationTarget["target"]) => ({ target: value });
const email = (address: string) => target({ case: "email", value: address });
const whatsapp = (number: string) => target({ case: "whatsapp", value: number });
const webhook = (id: string) => target({ case: "webhookId", value: id });
/** The parts of a message as they were meant. */
const unfolded = (source: string) => source.replace(/=\r?\n/g, "").replace(/\r\n/g, "\n");

test("alerts that fire together go out as one e-mail to each address, recorded for each rule", async () => {
  await using mail = await startMailServer();
  await using post = await startPost({
    PULSEWIRE_SMTP_URL: mail.url,
    PULSEWIRE_MAIL_FROM: "pulsewire@example.org",
  });
  await using _worker = post.start();
  const [first, second] = [randomUUID(), randomUUID()];
  const both = { targets: [email("on-call@example.org"), email("Chief@Example.org")] };
  await post.emit("alert.firing", alertEvent(first, "too warm"), both);
  await post.emit("alert.firing", alertEvent(second, "door open"), {
    targets: [email("ON-CALL@example.org")],
  });
  const gathered = async () =>
    (await post.webhooks.listDeliveries({})).deliveries.some((one) => one.happenings === 2);
  await post.settled({ until: gathered });
  await post.emit("alert.resolved", alertEvent(first, "cold again"), {
    targets: [email("on-call@example.org")],
  });
  await post.settled({ jumpMs: 2 * minute });
  assert.equal(mail.received.length, 2);
  const [alone] = mail.received.filter(({ to }) => to.includes("chief@example.org"));
  assert.match(alone?.source ?? "", /^Subject: \[critical\] Freezer: firing at Store 12/m);
  const [group] = mail.received.filter(({ to }) => to.includes("on-call@example.org"));
  assert.match(group?.source ?? "", /^Subject: 3 alerts: 2 firing, 1 resolved/m);
  for (const words of ["too warm", "door open", "cold again"])
    assert.ok(unfolded(group?.source ?? "").includes(words));

  const { deliveries } = await post.webhooks.listDeliveries({ alertRuleId: second });
  assert.equal(deliveries.length, 1);
  const [delivery] = deliveries;
  assert.equal(delivery?.channel, Channel.EMAIL);
  assert.equal(delivery?.status, DeliveryStatus.DELIVERED);
  assert.equal(delivery?.destination, "on-call@example.org");
  assert.equal(delivery?.eventType, "alert.group");
  assert.equal(delivery?.happenings, 3);
  assert.equal(delivery?.subjectIds.length, 3);
  assert.equal(delivery?.attempts[0]?.responseStatus, 250);
  assert.match(group?.source ?? "", new RegExp(`^Message-ID: <${delivery?.messageId}@example.org>`, "im"));
  assert.equal((await post.webhooks.listDeliveries({ channel: Channel.EMAIL })).deliveries.length, 2);
});

test("what comes after the wait is a message of its own, and a group has an end", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  const made = await post.webhooks.createWebhook({
    url: receiver.url,
    eventTypes: ["alert.*"],
    groupWait: { seconds: 60n },
  });
  await using _worker = post.start();
  const rule = randomUUID();
  for (let i = 0; i < 1_003; i++) await post.emit("alert.firing", alertEvent(rule, `${i}`));
  await post.settled({ jumpMs: 2 * minute });
  assert.deepEqual(
    receiver.received
      .map((one) => (verified(made.secret, one).data.happenings as unknown[]).length)
      .toSorted(),
    [1_000, 3],
  );
  await post.emit("alert.resolved", alertEvent(rule, "last"));
  await post.settled({ jumpMs: 2 * minute });
  const last = receiver.received[2];
  assert.ok(last);
  const alone = verifiedBody(last.body);
  assert.equal(alone.type, "alert.resolved");
  assert.equal(alone.data.message, "last");
});

const verifiedBody = (body: string) => JSON.parse(body) as { type: string; data: Record<string, unknown> };

test("WhatsApp messages have the documented shape, are retried where that helps, and given up where it does not", async () => {
  await using api = await startWhatsApp(token, phoneNumberId);
  await using post = await startPost({
    WHATSAPP_API_TOKEN: token,
    PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID: phoneNumberId,
    PULSEWIRE_WHATSAPP_URL: api.url,
    PULSEWIRE_NOTIFICATION_GROUP_WAIT: "0",
    // The operator's own API may be inside, the tenants' receivers may not.
    PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "off",
  });
  await using _worker = post.start();
  const rule = randomUUID();
  api.refuseNext(429, 130429);
  api.refuseNext(500, 131000);
  await post.emit("alert.firing", alertEvent(rule, "too warm"), { targets: [whatsapp("+4915112345678")] });
  await post.settled({ jumpMs: minute });
  assert.equal(api.taken.length, 1);
  assert.equal(api.taken[0]?.to, "+4915112345678");
  assert.match(api.taken[0]?.text?.body ?? "", /Freezer: firing at Store 12\ntoo warm/);
  const { deliveries } = await post.webhooks.listDeliveries({ channel: Channel.WHATSAPP });
  const { delivery } = await post.webhooks.getDelivery({ deliveryId: deliveries[0]?.id ?? "" });
  assert.deepEqual(
    delivery?.attempts.map(({ responseStatus }) => responseStatus),
    [429, 500, 200],
  );
  assert.match(delivery?.attempts[2]?.responseBody ?? "", /wamid\.1/);

  api.refuseNext(400, 131026);
  await post.emit("alert.firing", alertEvent(rule, "again"), { targets: [whatsapp("+4915112345678")] });
  await post.settled({ jumpMs: minute });
  const { deliveries: failed } = await post.webhooks.listDeliveries({ statuses: [DeliveryStatus.FAILED] });
  assert.equal(failed.length, 1);
  assert.equal(failed[0]?.attemptCount, 1);
  assert.match(failed[0]?.attempts[0]?.error ?? "", /WhatsApp answered 400: refused by the test/);
  assert.ok(!JSON.stringify(failed[0]?.attempts[0]?.error).includes(token));
});

test("a WhatsApp template gets the words in one line", async () => {
  await using api = await startWhatsApp(token, phoneNumberId);
  await using post = await startPost({
    WHATSAPP_API_TOKEN: token,
    PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID: phoneNumberId,
    PULSEWIRE_WHATSAPP_URL: api.url,
    PULSEWIRE_WHATSAPP_TEMPLATE: "alert_notice/en_US",
  });
  await using _worker = post.start();
  const targets = [whatsapp("+4915112345678")];
  for (const words of ["too\twarm", "door      open"])
    await post.emit("alert.firing", alertEvent(randomUUID(), words), { targets });
  await post.settled({ jumpMs: minute });
  assert.equal(api.taken.length, 1);
  const { name, language, components } = api.taken[0]?.template ?? {};
  assert.equal(name, "alert_notice");
  assert.equal(language?.code, "en_US");
  assert.match(components?.[0]?.parameters[0]?.text ?? "", /^2 alerts: 2 firing — .*too warm.*door open/);
});

test("a mail server that is away or refuses for now is tried again, a receiver that it refuses is not", async () => {
  const mail = await startMailServer();
  await using post = await startPost({
    PULSEWIRE_SMTP_URL: mail.url,
    PULSEWIRE_MAIL_FROM: "pulsewire@example.org",
    PULSEWIRE_NOTIFICATION_GROUP_WAIT: "0",
  });
  await using _worker = post.start();
  await mail.stop();
  await post.emit("alert.firing", alertEvent(randomUUID()), { targets: [email("a@example.org")] });
  const attempts = async () => (await post.webhooks.listDeliveries({})).deliveries[0]?.attemptCount ?? 0;
  await post.settled({ jumpMs: minute, until: async () => (await attempts()) >= 2 });
  await using again = await startMailServer(mail.port);
  again.refuseNext(451);
  await post.settled({ jumpMs: minute });
  assert.equal(again.received.length, 1);
  again.refuseNext(550);
  await post.emit("alert.firing", alertEvent(randomUUID()), { targets: [email("nobody@example.org")] });
  await post.settled({ jumpMs: minute });
  const { deliveries } = await post.webhooks.listDeliveries({ statuses: [DeliveryStatus.FAILED] });
  assert.equal(deliveries[0]?.destination, "nobody@example.org");
  assert.equal(deliveries[0]?.attempts[0]?.responseStatus, 550);
  assert.equal(deliveries[0]?.attemptCount, 1);
});

test("a channel that is not set up drops nothing: the delivery says why, and cannot be replayed until it is", async () => {
  await using post = await startPost({ PULSEWIRE_NOTIFICATION_GROUP_WAIT: "0" });
  await using _worker = post.start();
  await post.emit("alert.firing", alertEvent(randomUUID()), {
    targets: [email("a@example.org"), whatsapp("+491511234567")],
  });
  const tried = async () =>
    (await post.webhooks.listDeliveries({})).deliveries.filter((one) => one.attemptCount > 0);
  await post.settled({ until: async () => (await tried()).length === 2 });
  for (const { id, channel, attempts, status } of await tried()) {
    const setting = channel === Channel.EMAIL ? "PULSEWIRE_SMTP_URL" : "WHATSAPP_API_TOKEN";
    const said = attempts[0]?.error ?? "";
    assert.ok(said.includes(setting), said);
    assert.equal(status, DeliveryStatus.RETRYING);
    const { metadata } = await assertFails(
      post.webhooks.replayDelivery({ deliveryId: id }),
      Code.FailedPrecondition,
      "NOT_CONFIGURED",
    );
    assert.deepEqual(metadata, { setting });
  }
});

test("a webhook that is a target is told whatever it subscribed to, once, unless it is disabled", async () => {
  await using post = await startPost();
  await using receiver = await startReceiver();
  const make = async (eventTypes: string[]) =>
    (await post.webhooks.createWebhook({ url: receiver.url, eventTypes })).webhook?.id ?? "";
  const quiet = await make([]);
  const all = await make(["*"]);
  await using _worker = post.start();
  const rule = randomUUID();
  const targets = [webhook(quiet), webhook(all), webhook(all.toUpperCase()), webhook(randomUUID())];
  await post.emit("alert.firing", alertEvent(rule), { targets });
  await post.settled();
  assert.equal(receiver.received.length, 2);
  const { deliveries } = await post.webhooks.listDeliveries({ alertRuleId: rule });
  // The other one had subscribed.
  assert.deepEqual(
    deliveries.map(({ webhookId }) => webhookId),
    [quiet],
  );
  await post.webhooks.updateWebhook({ webhookId: quiet, enabled: false });
  await post.emit("alert.firing", alertEvent(rule), { targets });
  await post.settled();
  assert.equal(receiver.received.length, 3);
});

test("a target that leaves its alert rule is told nothing more, and its deliveries cannot be replayed", async () => {
  await using mail = await startMailServer();
  await using post = await startPost({
    PULSEWIRE_SMTP_URL: mail.url,
    PULSEWIRE_MAIL_FROM: "pulsewire@example.org",
  });
  using session = grpcSession(post.server.url, { "x-api-key": post.server.tenant.apiKey });
  const metrics = createClient(MetricsService, session.transport);
  const targets = [email("stays@example.org"), email("leaves@example.org")];
  const condition = { case: "threshold" as const, value: { comparison: Comparison.GREATER, value: 1 } };
  const { rule } = await metrics.createAlertRule({
    spec: { name: "r", metricName: "m", condition, targets },
  });
  const ruleId = rule?.id ?? "";
  await using _worker = post.start();
  await post.emit("alert.firing", alertEvent(ruleId), { targets });
  await post.settled({ jumpMs: minute });
  assert.equal(mail.received.length, 2);
  await post.emit("alert.firing", alertEvent(ruleId), { targets });
  const count = async () => (await post.webhooks.listDeliveries({ alertRuleId: ruleId })).deliveries.length;
  await post.settled({ until: async () => (await count()) === 4 });
  await metrics.updateAlertRule({
    ruleId,
    spec: { name: "r", metricName: "m", condition, targets: [email("STAYS@example.org")] },
    updateMask: { paths: ["targets"] },
  });
  await post.settled({ jumpMs: minute });
  const { deliveries } = await post.webhooks.listDeliveries({ alertRuleId: ruleId });
  const ends = deliveries.map(({ destination, status }) => `${destination} ${DeliveryStatus[status]}`);
  assert.deepEqual(ends.toSorted(), [
    "leaves@example.org DELIVERED",
    "leaves@example.org DISCARDED",
    "stays@example.org DELIVERED",
    "stays@example.org DELIVERED",
  ]);
  for (const { id, destination } of deliveries) {
    const replay = post.webhooks.replayDelivery({ deliveryId: id });
    if (destination.startsWith("stays")) await replay;
    else await assertFails(replay, Code.FailedPrecondition, "FAILED_PRECONDITION");
  }
});
