/** Clients of the SDK on the real server: streams that go on over restarts and cuts, pages, sessions. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import {
  AlertState,
  type BreakNotice,
  Comparison,
  createClient,
  FunctionStatus,
  follow,
  type PulsewireClient,
  pages,
  sleep,
  timestampMs,
} from "../sdk/src/index.ts";
import { createClient as createWebClient } from "../sdk/src/web.ts";
import { startConnectServer } from "./helpers/connect-server.ts";
import { keyEncryption, startFunctionServer } from "./helpers/function-server.ts";
import { type Proxy as Line, startProxy } from "./helpers/proxy.ts";
import { serve, settingsFor, type TestServer } from "./helpers/server.ts";
import { startServerProcess } from "./helpers/server-process.ts";

let server: TestServer;
let writer: PulsewireClient;
/** A second server on the database: the one that is restarted. */
let restarted: Awaited<ReturnType<typeof serve>>;
let line: Line;
const undo = new AsyncDisposableStack();

before(async () => {
  server = undo.use(await startFunctionServer());
  writer = undo.use(createClient({ endpoint: server.url, apiKey: server.tenant.apiKey }));
  restarted = await serve(server.database, { ...keyEncryption, PULSEWIRE_ROLE: "api" });
  undo.defer(() => restarted[Symbol.asyncDispose]());
  line = undo.use(await startProxy(restarted.url));
});
after(() => undo.disposeAsync());

/** Drains the server and starts another one on its port, while the line to it is there and then is not. */
async function restart(): Promise<void> {
  await restarted[Symbol.asyncDispose]();
  await sleep(100);
  restarted = await serve(server.database, {
    ...keyEncryption,
    PULSEWIRE_ROLE: "api",
    PORT: String(restarted.port),
  });
}

async function cut(): Promise<void> {
  await line.down();
  await sleep(100);
  await line.up();
}

const retry = { initialDelayMs: 20, maxDelayMs: 200 };

/** Clients of the server that is restarted, of each kind. */
const kinds = {
  grpc: () => createClient({ endpoint: line.url, apiKey: server.tenant.apiKey }),
  connect: () => createClient({ endpoint: line.url, apiKey: server.tenant.apiKey, protocol: "connect" }),
  "connect over fetch": () => createWebClient({ endpoint: line.url, apiKey: server.tenant.apiKey }),
  "grpc-web over fetch": () =>
    createWebClient({ endpoint: line.url, apiKey: server.tenant.apiKey, protocol: "grpc-web" }),
};

/** Notes the breaks, so that a test can tell that there were any. */
function noting() {
  const breaks: BreakNotice[] = [];
  return { breaks, options: { retry, onBreak: (notice: BreakNotice) => void breaks.push(notice) } };
}

describe("streams go on over a restart and a cut, without gap and without repeat", () => {
  test("WatchEvents, over every protocol", async () => {
    const count = 240;
    const ids = Array.from({ length: count }, () => randomUUID());
    const begun = Object.keys(kinds).map(() => Promise.withResolvers<void>());
    const counts = begun.map(() => 0);
    const readers = Object.entries(kinds).map(async ([kind, create], index) => {
      using client = create();
      const { breaks, options } = noting();
      const seen: (string | undefined)[] = [];
      for await (const { events } of follow(
        client.ingestion.watchEvents,
        { filter: { eventTypes: ["followed"] } },
        options,
      )) {
        begun[index]?.resolve();
        counts[index] = seen.push(...events.map(({ event }) => event?.eventId));
        if (seen.length >= count) break;
      }
      assert.deepEqual(seen, ids, kind);
      assert.ok(breaks.length >= 2, kind);
      for (const { error } of breaks) assert.equal(error.code, Code.Unavailable, `${kind}: ${error}`);
    });
    await Promise.all(begun.map(({ promise }) => promise));
    for (const [index, eventId] of ids.entries()) {
      await writer.ingestion.ingestEvent({ event: { eventId, eventType: "followed" } });
      if (index === 80) void restart();
      if (index !== 160) continue;
      // All are connected again.
      while (Math.min(...counts) <= index) await sleep(10);
      await cut();
    }
    await Promise.all(readers);
  });

  test("WatchProgress: a snapshot, then each version once", async () => {
    using client = kinds.grpc();
    const clientKrn = "krn:first:client:followed";
    const report = () =>
      writer.progress.reportProgress({ clientKrn, filename: "a.csv", counts: { done: 1n } });
    await report();
    const { breaks, options } = noting();
    const versions: bigint[] = [];
    let writing: Promise<void> | undefined;
    for await (const { snapshot, deltas } of follow(client.progress.watchProgress, { clientKrn }, options)) {
      versions.push(...[...snapshot, ...deltas].map(({ version }) => version));
      writing ??= (async () => {
        for (let n = 2; n <= 60; n++) {
          await report();
          if (n === 20) await restart();
          if (n !== 40) continue;
          while (versions.at(-1) !== 40n) await sleep(10);
          await cut();
        }
      })();
      if (versions.at(-1) === 60n) break;
    }
    await writing;
    assert.deepEqual(
      versions,
      Array.from({ length: 60 }, (_, index) => BigInt(index + 1)),
    );
    assert.ok(breaks.length >= 2);
  });

  test("WatchAlerts: each version once", async () => {
    const { store } = await writer.metrics.createStore({ name: "followed" });
    const storeId = store?.id ?? "";
    await writer.metrics.createAlertRule({
      spec: {
        name: "followed",
        storeId,
        metricName: "heat",
        condition: { case: "threshold", value: { comparison: Comparison.GREATER, value: 5 } },
      },
    });
    const heat = (value: number) =>
      writer.metrics.writeSamples({
        storeId,
        samples: ["a", "b", "c"].map((room) => ({ name: "heat", value, labels: { room } })),
      });
    using client = kinds.grpc();
    const { breaks, options } = noting();
    const seen = new Map<string, bigint[]>();
    let resolved = 0;
    let writing: Promise<unknown> | undefined;
    for await (const { alerts } of follow(client.metrics.watchAlerts, { storeId }, options)) {
      for (const { labels, version, state } of alerts) {
        const room = labels.room ?? "";
        seen.set(room, [...(seen.get(room) ?? []), version]);
        if (state === AlertState.RESOLVED) resolved++;
      }
      writing ??= heat(9).then(restart);
      if (seen.size === 3 && resolved === 0) writing = writing.then(() => heat(1)).then(cut);
      if (resolved >= 3) break;
    }
    await writing;
    for (const [room, versions] of seen) {
      assert.deepEqual(
        versions,
        versions.map((_, index) => BigInt(index + 1)),
        room,
      );
    }
    assert.ok(breaks.length >= 1);
  });

  test("StreamLogs: each line once, to the end of the invocation, and then it ends", async () => {
    const lines = 120;
    await writer.functions.createFunction({
      name: "counter",
      image: "local",
      replicas: 0,
      command: [
        "/bin/sh",
        "-c",
        `i=1; while [ $i -le ${lines} ]; do echo line $i; i=$((i+1)); sleep 0.01; done`,
      ],
    });
    const { invocation } = await writer.functions.invokeFunction({ name: "counter" });
    using client = kinds.grpc();
    const { breaks, options } = noting();
    const seen: string[] = [];
    let restarting: Promise<void> | undefined;
    const request = { invocationId: invocation?.id ?? "", follow: true, tail: -1 };
    for await (const message of follow(client.functions.streamLogs, request, options)) {
      seen.push(...message.lines.map(({ text }) => text));
      if (seen.length > 20) restarting ??= restart();
    }
    await restarting;
    assert.deepEqual(
      seen,
      Array.from({ length: lines }, (_, index) => `line ${index + 1}`),
    );
    assert.ok(breaks.length >= 1);
    assert.equal(
      (await writer.functions.getFunction({ name: "counter" })).function?.status,
      FunctionStatus.RUNNING,
    );
  });
});

test("streams go on over SIGKILL of the server's process, without gap and without repeat", async () => {
  const settings = { ...settingsFor(server.database), ...keyEncryption, PULSEWIRE_ROLE: "api" };
  const killed = await startServerProcess({ ...settings, LOG_LEVEL: "info" });
  let again: ReturnType<typeof startServerProcess> | undefined;
  try {
    const endpoint = killed.url;
    const { port: PORT } = new URL(endpoint);
    const count = 120;
    const ids = Array.from({ length: count }, () => randomUUID());
    const clients = [
      createClient({ endpoint, apiKey: server.tenant.apiKey }),
      createWebClient({ endpoint, apiKey: server.tenant.apiKey }),
    ];
    const begun = clients.map(() => Promise.withResolvers<void>());
    const counts = clients.map(() => 0);
    const readers = clients.map(async (client, index) => {
      const { breaks, options } = noting();
      const seen: (string | undefined)[] = [];
      const request = { filter: { eventTypes: ["outlived"] } };
      for await (const { events } of follow(client.ingestion.watchEvents, request, options)) {
        begun[index]?.resolve();
        counts[index] = seen.push(...events.map(({ event }) => event?.eventId));
        if (seen.length >= count) break;
      }
      client.close();
      assert.deepEqual(seen, ids);
      assert.ok(breaks.length >= 1);
      for (const { error } of breaks) assert.equal(error.code, Code.Unavailable, String(error));
    });
    await Promise.all(begun.map(({ promise }) => promise));
    for (const [index, eventId] of ids.entries()) {
      // Events come while it is dead, too.
      await writer.ingestion.ingestEvent({ event: { eventId, eventType: "outlived" } });
      if (index !== 50) continue;
      while (Math.min(...counts) < 40) await sleep(10);
      await killed.kill();
      again = startServerProcess({ ...settings, LOG_LEVEL: "info", PORT });
    }
    await Promise.all(readers);
  } finally {
    await killed.kill();
    await (await again)?.kill();
  }
});

test("a stream that cannot be resumed tells why, and one that is given up ends", async () => {
  using client = createClient({ endpoint: server.url, apiKey: server.tenant.apiKey });
  const first = async (request: Parameters<typeof client.ingestion.watchEvents>[0], options = {}) => {
    for await (const message of follow(client.ingestion.watchEvents, request, options)) return message;
    return undefined;
  };
  await assert.rejects(first({ cursor: "made up" }), { name: "PulsewireError", reason: "INVALID_CURSOR" });
  using stranger = createClient({ endpoint: server.url, apiKey: "evp_wrong" });
  const refused: string[] = [];
  await assert.rejects(
    async () => {
      const options = { retry, onBreak: ({ error }: BreakNotice) => void refused.push(error.reason) };
      for await (const _ of follow(stranger.ingestion.watchEvents, {}, options)) assert.fail("no message");
    },
    { reason: "INVALID_API_KEY" },
  );
  // Once more, for a session may have ended; not without end.
  assert.deepEqual(refused, ["INVALID_API_KEY"]);
  using nobody = createClient({ endpoint: "http://127.0.0.1:9", apiKey: "evp_wrong" });
  await assert.rejects(
    async () => {
      for await (const _ of follow(
        nobody.ingestion.watchEvents,
        {},
        { retry: { ...retry, maxAttempts: 3 } },
      )) {
        assert.fail("no message");
      }
    },
    { code: Code.Unavailable },
  );
  const abort = new AbortController();
  await assert.rejects(
    async () => {
      for await (const _ of follow(client.ingestion.watchEvents, {}, { signal: abort.signal })) abort.abort();
    },
    { code: Code.Canceled },
  );
});

test("a loop that is left ends the call, and silence is a break", async () => {
  const { IngestionService, ProgressService } = await import("../sdk/src/index.ts");
  let open = 0;
  let calls = 0;
  await using fake = await startConnectServer({
    routes(router) {
      router.service(IngestionService, {
        async *watchEvents({ cursor }, { signal }) {
          open++;
          calls++;
          try {
            yield { cursor: `${cursor}+` };
            await sleep(60_000, { signal });
          } finally {
            open--;
          }
        },
      });
      router.service(ProgressService, {
        // A snapshot whose first piece comes twice, for the first stream breaks before it is complete.
        async *watchProgress({ cursor }) {
          calls++;
          if (cursor === "") yield { snapshot: [{ filename: "a" }] };
          if (calls === 1) throw new Error("broken");
          yield { snapshot: [{ filename: "b" }], snapshotComplete: true, cursor: "c" };
        },
      });
    },
  });
  using client = createClient({ endpoint: fake.url });
  for await (const _ of client.ingestion.watchEvents({})) break;
  for (const end = Date.now() + 5_000; open > 0 && Date.now() < end; ) await sleep(10);
  assert.equal(open, 0);
  const { breaks, options } = noting();
  for await (const { cursor } of follow(client.ingestion.watchEvents, {}, { ...options, silenceMs: 60 })) {
    // The time that the reader takes is not the stream's.
    await sleep(100);
    if (cursor === "+++") break;
  }
  assert.equal(calls, 4);
  assert.deepEqual(
    breaks.map(({ error }) => error.message),
    Array.from({ length: 2 }, () => "The stream said nothing for 0.06 s, not even that it is alive."),
  );
});

test("pages come one after the other, from the one asked for, and end", async () => {
  for (let n = 0; n < 7; n++) await writer.metrics.createStore({ name: `page-${n}` });
  const names: string[][] = [];
  const tokens: string[] = [];
  const request = { nameContains: "page-", pageSize: 3 };
  for await (const { stores, nextPageToken } of pages(writer.metrics.listStores, request)) {
    names.push(stores.map(({ name }) => name));
    tokens.push(nextPageToken);
  }
  const expected = [["page-0", "page-1", "page-2"], ["page-3", "page-4", "page-5"], ["page-6"]];
  assert.deepEqual(names, expected);
  for await (const { stores } of pages(writer.metrics.listStores, {
    ...request,
    pageToken: tokens[1] ?? "",
  })) {
    assert.deepEqual(
      stores.map(({ name }) => name),
      expected[2],
    );
  }
  for await (const { stores } of pages(writer.metrics.listStores, request)) {
    assert.equal(stores.length, 3);
    break;
  }
});

describe("sessions", () => {
  test("are refreshed before they expire, and opened again when they have ended", async (t) => {
    await using brief = await serve(server.database, {
      ...keyEncryption,
      PULSEWIRE_ACCESS_TOKEN_TTL: "60",
      PULSEWIRE_ROLE: "api",
    });
    const { email, password, slug } = server.tenant;
    using client = createClient({ endpoint: brief.url, login: { email, password, tenantSlug: slug } });
    const { sessionId } = await client.auth.getMe({});
    t.mock.timers.enable({ apis: ["Date"], now: Date.now() + 40_000 });
    const [again, atOnce] = await Promise.all([client.auth.getMe({}), client.auth.getMe({})]);
    assert.deepEqual([again.sessionId, atOnce.sessionId], [sessionId, sessionId]);
    assert.ok(again.expiresAt && timestampMs(again.expiresAt) > Date.now() + 50_000, "has a new token");
    t.mock.timers.reset();
    await client.auth.logout({});
    const { sessionId: other } = await client.auth.getMe({});
    assert.notEqual(other, sessionId);
  });

  test("a source of tokens is asked for another one when the server refuses one", async () => {
    const asked: (string | undefined)[] = [];
    const token = (refused: string | undefined) => {
      asked.push(refused);
      return refused === undefined ? "stale" : server.tenant.token;
    };
    using client = createClient({ endpoint: server.url, token });
    const { principal } = await client.auth.getMe({});
    assert.equal(principal.case === "user" && principal.value.email, server.tenant.email);
    assert.deepEqual(asked, [undefined, "stale"]);
    asked.length = 0;
    using web = createWebClient({ endpoint: server.url, token });
    for await (const { cursor } of follow(web.ingestion.watchEvents, {}, { retry })) {
      assert.notEqual(cursor, "");
      break;
    }
    assert.deepEqual(asked, [undefined, "stale"]);
  });
});
