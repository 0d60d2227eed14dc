/** The docs page in a real browser: it opens without any network but the server's, and a call is tried from it. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser } from "playwright-core";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { launchChromium } from "./chromium.ts";

let server: TestServer;
let browser: Browser;
const undo = new AsyncDisposableStack();

before(async () => {
  server = undo.use(await startTestServer());
  browser = await launchChromium();
  undo.defer(() => browser.close());
});
after(() => undo.disposeAsync());

test("a call is tried on the docs page", async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const errors: string[] = [];
  const foreign: string[] = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(server.url) && !request.url().startsWith("data:"))
      foreign.push(request.url());
  });

  await page.goto(`${server.url}/docs`);
  await page.getByRole("button", { name: "Authorize" }).first().click();
  const dialog = page.locator(".modal-ux");
  await dialog.getByLabel("apiKey").or(dialog.locator("input[type=text]")).first().fill(server.tenant.apiKey);
  await dialog.getByRole("button", { name: "Apply credentials" }).first().click();
  await dialog.getByRole("button", { name: "Close" }).last().click();

  const tag = page.locator("#operations-tag-Event_Processor");
  await tag.click();
  const operation = page.locator("#operations-Event_Processor-IngestionService_IngestEvent_3");
  await operation.click();
  const body = operation.locator("textarea.body-param__text");
  await body.fill(
    JSON.stringify({
      eventType: "tried",
      userId: "u",
      sessionId: "s",
      timestamp: "2024-01-30T12:34:56Z",
      eventId: "tried-1",
    }),
  );
  const answered = page.waitForResponse(`${server.url}/api/v1/events`);
  await operation.getByRole("button", { name: "Execute" }).click();
  assert.equal((await answered).status(), 202);
  await operation
    .locator(".live-responses-table")
    .getByText("Event accepted for processing")
    .first()
    .waitFor();

  const { rows } = await server.database.superuser.query(
    "select event_type from events where event_id = 'tried-1'",
  );
  assert.deepEqual(rows, [{ event_type: "tried" }]);
  assert.deepEqual(foreign, []);
  assert.deepEqual(errors, []);
});
