/** A page of another origin calls the server from a real browser. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, type TestContext, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { HealthCheckResponse_ServingStatus as Status } from "../../server/src/gen/grpc/health/v1/health_pb.js";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { launchChromium } from "./chromium.ts";
import type { Target } from "./page.ts";
import { bundlePage, type Site, startSite } from "./site.ts";

let friend: Site;
let stranger: Site;
let server: TestServer;
let browser: Browser;
const undo = new AsyncDisposableStack();

before(async () => {
  const script = await bundlePage();
  friend = undo.use(await startSite(script));
  stranger = undo.use(await startSite(script));
  server = undo.use(
    await startTestServer({ PULSEWIRE_CORS_ORIGINS: `https://app.example,${friend.origin}` }),
  );
  browser = await launchChromium();
  undo.defer(() => browser.close());
});
after(() => undo.disposeAsync());

/** A page of the site; all that went wrong in it is collected. */
async function open(t: TestContext, { origin }: Site): Promise<{ page: Page; errors: string[] }> {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text());
  });
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(origin);
  await page.waitForFunction(() => globalThis.pulsewire !== undefined);
  return { page, errors };
}

const targetOf = (protocol: Target["protocol"]): Target => {
  return { endpoint: server.url, apiKey: server.tenant.apiKey, protocol };
};

async function countEvents(): Promise<number> {
  const { rows } = await server.database.superuser.query<{ count: string }>("select count(*) from events");
  return Number(rows[0]?.count);
}

for (const protocol of ["connect", "grpc-web"] as const) {
  describe(`${protocol} from an allowed origin`, () => {
    test("writes and reads back", async (t) => {
      const { page, errors } = await open(t, friend);
      const eventId = randomUUID();
      const answer = await page.evaluate(([target, id]) => pulsewire.roundTrip(target, id), [
        targetOf(protocol),
        eventId,
      ] as const);
      const payload = { from: "browser", words: ["grüß", "dich"] };
      assert.deepEqual(answer, { duplicate: false, eventType: "page.viewed", payload });
      assert.deepEqual(errors, []);
    });

    test("reads the details of a refusal", async (t) => {
      const { page, errors } = await open(t, friend);
      const refusal = await page.evaluate((target) => pulsewire.refusal(target), targetOf(protocol));
      assert.equal(refusal?.code, "InvalidArgument");
      assert.equal(refusal.reason, "INVALID_FIELD");
      assert.equal(refusal.fields[0], "event.event_type");
      // gRPC-Web tells of errors in trailers; an HTTP status of 400 is logged by the browser itself.
      const logged = protocol === "connect" ? [/status of 400/] : [];
      assert.equal(errors.length, logged.length, errors.join("\n"));
      for (const [index, text] of logged.entries()) assert.match(errors[index] ?? "", text);
    });

    test("reads a stream and cancels it", async (t) => {
      const { page, errors } = await open(t, friend);
      const watched = await page.evaluate((target) => pulsewire.watch(target), targetOf(protocol));
      assert.deepEqual(watched, { statuses: [Status.SERVING], end: "Canceled" });
      assert.deepEqual(errors, []);
    });
  });
}

test("a page may read the headers that say which call it was", async (t) => {
  const { page, errors } = await open(t, friend);
  const answer = await page.evaluate((target) => pulsewire.plainFetch(target), targetOf("connect"));
  assert.deepEqual(answer, { status: 200, requestId: "from-the-page" });
  assert.deepEqual(errors, []);
});

for (const protocol of ["connect", "grpc-web"] as const) {
  test(`${protocol} from an origin that is not allowed: nothing is sent`, async (t) => {
    const { page, errors } = await open(t, stranger);
    const stored = await countEvents();
    await assert.rejects(
      page.evaluate((target) => pulsewire.roundTrip(target, "foreign"), targetOf(protocol)),
      /Failed to fetch/,
    );
    assert.equal(await countEvents(), stored);
    assert.equal(errors.length, 2, errors.join("\n"));
    assert.match(
      errors[0] ?? "",
      new RegExp(`from origin '${stranger.origin}' has been blocked by CORS policy`),
    );
    assert.match(errors[1] ?? "", /net::ERR_FAILED/);
  });
}
