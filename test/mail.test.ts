import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { createMailer, mailLimits } from "../server/src/mail/mailer.ts";
import { createSmtpTransport } from "../server/src/mail/smtp.ts";
import { testLogger } from "./helpers/database.ts";
import { startMailServer } from "./helpers/smtp.ts";

const mail = { to: "someone@example.org", subject: "Grüße", text: "Zeile 1\nZeile 2 — äöü\n" };
const quick = { ...mailLimits, retryMinMs: 20, retryMaxMs: 40, closeMs: 200 };
const mailerFor = (smtpUrl: string, limits = quick) =>
  createMailer(createSmtpTransport({ smtpUrl, from: "pulsewire@example.org" }), testLogger, limits);

test("a message that is refused for now is sent again, and counts as sent when it is", async () => {
  await using server = await startMailServer();
  server.refuseNext(451, 2);
  const mailer = mailerFor(server.url);
  assert.equal(await mailer.send(mail, { answerMs: 5_000 }), "sent");
  assert.equal(server.received.length, 1);
  assert.match(server.received[0]?.source ?? "", /^Subject: =\?UTF-8\?/m);
  await mailer.close();
});

test("a message that is refused for good is not sent again", async () => {
  await using server = await startMailServer();
  server.refuseNext(550);
  const mailer = mailerFor(server.url);
  assert.equal(await mailer.send(mail, { answerMs: 5_000 }), "failed");
  assert.equal(await mailer.send(mail, { answerMs: 5_000 }), "sent");
  assert.equal(server.received.length, 1);
  await mailer.close();
});

test("attempts are bounded", async () => {
  await using server = await startMailServer();
  server.refuseNext(451, 100);
  const mailer = mailerFor(server.url, { ...quick, attempts: 3 });
  assert.equal(await mailer.send(mail, { answerMs: 5_000 }), "failed");
  server.refuseNext(0);
  assert.equal(server.received.length, 0);
  await mailer.close();
});

test("nobody waits for a mail server that says nothing, and closing ends", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => sockets.add(socket.on("error", () => {})));
  silent.listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const mailer = mailerFor(`smtp://127.0.0.1:${port}`);
  const started = performance.now();
  assert.equal(await mailer.send(mail), "pending");
  assert.equal(await mailer.send(mail, { answerMs: 100 }), "pending");
  await mailer.close();
  assert.ok(performance.now() - started < 2_000);
  assert.equal(await mailer.send(mail), "failed");
  for (const socket of sockets) socket.destroy();
  silent.close();
});

test("what may wait is bounded", async () => {
  await using server = await startMailServer();
  const mailer = mailerFor(server.url, { ...quick, maxWaiting: 2 });
  const outcomes = await Promise.all([1, 2, 3].map(() => mailer.send(mail, { answerMs: 5_000 })));
  assert.deepEqual(outcomes, ["sent", "sent", "failed"]);
  await mailer.close();
});

test("many messages side by side all arrive", async () => {
  await using server = await startMailServer();
  const mailer = mailerFor(server.url);
  const outcomes = await Promise.all(
    Array.from({ length: 30 }, (_, i) => mailer.send({ ...mail, subject: `${i}` }, { answerMs: 10_000 })),
  );
  assert.deepEqual(new Set(outcomes), new Set(["sent"]));
  assert.equal(server.received.length, 30);
  await mailer.close();
});
