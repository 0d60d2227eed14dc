/** The browser build as it is published, in a page of another origin: unary, stream, and going on after a restart. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { createClient } from "../../sdk/src/index.ts";
import { pack, unpack } from "../helpers/pack.ts";
import { serve, startTestServer, type TestServer } from "../helpers/server.ts";
import { launchChromium } from "./chromium.ts";
import { bundleIn, startSite } from "./site.ts";

const settings = {
  PULSEWIRE_CORS_ORIGINS: "*",
  PULSEWIRE_KEY_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64"),
};

let server: TestServer;
/** The server that the page calls, and that is restarted. */
let called: Awaited<ReturnType<typeof serve>>;
let browser: Browser;
let page: Page;
const errors: string[] = [];
const undo = new AsyncDisposableStack();

before(async () => {
  const project = await mkdtemp(path.join(tmpdir(), "pulsewire-browser-"));
  undo.defer(() => rm(project, { recursive: true, force: true }));
  await unpack(await pack("sdk", project), project, "@pulsewire/sdk");
  const { script, inputs } = await bundleIn(project, path.join(import.meta.dirname, "packed-page.ts"));
  assert.ok(
    inputs.some((input) => input.endsWith("node_modules/@pulsewire/sdk/dist/web.js")),
    inputs.join("\n"),
  );
  assert.ok(!inputs.some((input) => input.includes("sdk/src/")));
  const site = undo.use(await startSite(script));
  server = undo.use(await startTestServer(settings));
  called = await serve(server.database, settings);
  undo.defer(() => called[Symbol.asyncDispose]());
  browser = await launchChromium();
  undo.defer(() => browser.close());
  page = await browser.newPage();
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(site.origin);
  await page.waitForFunction(() => globalThis.packed !== undefined);
});
after(() => undo.disposeAsync());

const target = () => ({ endpoint: called.url, apiKey: server.tenant.apiKey });

test("unary calls, a refusal, and the gateway", async () => {
  assert.equal(await page.evaluate((target) => packed.me(target), target()), "first");
  assert.equal(await page.evaluate((target) => packed.refusal(target), target()), "INVALID_FIELD");
  const sent = await page.evaluate((target) => packed.send(target, "clicked", 1200), target());
  assert.deepEqual(sent, { accepted: 1200, pending: 0 });
  assert.deepEqual(errors, []);
});

test("a stream goes on after the server has been restarted, without gap and without repeat", async () => {
  using client = createClient({ endpoint: server.url, apiKey: server.tenant.apiKey });
  await page.evaluate((target) => packed.watch(target, "seen"), target());
  const ids = Array.from({ length: 40 }, (_, n) => `seen-${n}`);
  for (const [n, eventId] of ids.entries()) {
    await client.ingestion.ingestEvent({ event: { eventId, eventType: "seen" } });
    if (n === 10) await called[Symbol.asyncDispose]();
    if (n === 20) {
      await page.waitForFunction(() => packed.watched().breaks.length >= 2);
      called = await serve(server.database, { ...settings, PORT: String(called.port) });
    }
  }
  await page.waitForFunction((count) => packed.watched().watched.length >= count, ids.length);
  const { watched, breaks } = await page.evaluate(() => packed.watched());
  assert.deepEqual(watched, ids);
  assert.match(breaks[0] ?? "", /the server is shutting down|the connection broke/);
  assert.ok(
    breaks.some((message) => /The server cannot be reached/.test(message)),
    breaks.join("\n"),
  );
  assert.deepEqual(errors, []);
});
