import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RetryInfoSchema,
} from "../sdk/src/gen/google/rpc/error_details_pb.js";
import {
  AuthService,
  backoffMs,
  createClient,
  defaultRetryPolicy,
  IngestionService,
  MetricsService,
  PulsewireError,
  parseRetryAfter,
  retryDelayMs,
  shouldRetry,
  sleep,
  toPulsewireError,
  uuidv7,
} from "../sdk/src/index.ts";
import { createClient as createWebClient } from "../sdk/src/web.ts";
import { startConnectServer } from "./helpers/connect-server.ts";

describe("errors", () => {
  test("carry reason, metadata, violations and the server's delay", () => {
    const error = toPulsewireError(
      new ConnectError("too much", Code.ResourceExhausted, { "retry-after": "1" }, [
        {
          desc: ErrorInfoSchema,
          value: { domain: "pulsewire", reason: "RATE_LIMITED", metadata: { limit: "600/min" } },
        },
        { desc: RetryInfoSchema, value: { retryDelay: { seconds: 2n, nanos: 500_000_000 } } },
        { desc: BadRequestSchema, value: { fieldViolations: [{ field: "a.b", description: "is wrong" }] } },
      ]),
    );
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(error.reason, "RATE_LIMITED");
    assert.equal(error.message, "too much");
    assert.deepEqual(error.metadata, { limit: "600/min" });
    assert.deepEqual(error.violations, [{ field: "a.b", description: "is wrong" }]);
    assert.equal(error.retryDelayMs, 2500);
    assert.ok(error.cause instanceof ConnectError);
  });

  test("of others have no reason, and what is one already stays as it is", () => {
    const foreign = toPulsewireError(
      new ConnectError("no", Code.Aborted, undefined, [
        { desc: ErrorInfoSchema, value: { domain: "example.com", reason: "OTHER" } },
      ]),
    );
    assert.equal(foreign.reason, "");
    assert.equal(toPulsewireError(foreign), foreign);
    assert.equal(toPulsewireError("what?").code, Code.Unknown);
  });
});

describe("retry", () => {
  const error = (code: Code, init: Partial<PulsewireError> = {}) =>
    new PulsewireError({ code, message: "", ...init } as ConstructorParameters<typeof PulsewireError>[0]);

  test("is decided by listed codes only", () => {
    const idempotent = { idempotent: true };
    assert.equal(shouldRetry(error(Code.Unavailable), idempotent), true);
    assert.equal(shouldRetry(error(Code.Aborted), idempotent), true);
    assert.equal(shouldRetry(error(Code.Aborted, { reason: "ETAG_MISMATCH" }), idempotent), false);
    assert.equal(shouldRetry(error(Code.ResourceExhausted), idempotent), false);
    assert.equal(shouldRetry(error(Code.ResourceExhausted, { retryDelayMs: 5 }), idempotent), true);
    assert.equal(shouldRetry(error(Code.ResourceExhausted, { reason: "RATE_LIMITED" }), idempotent), true);
    assert.equal(
      shouldRetry(error(Code.ResourceExhausted, { reason: "MESSAGE_TOO_LARGE" }), idempotent),
      false,
    );
    assert.equal(shouldRetry(error(Code.DeadlineExceeded), idempotent), true);
    assert.equal(shouldRetry(error(Code.DeadlineExceeded), { idempotent: false }), false);
    for (const code of [
      Code.Canceled,
      Code.InvalidArgument,
      Code.Unauthenticated,
      Code.Internal,
      Code.Unknown,
    ]) {
      assert.equal(shouldRetry(error(code), idempotent), false, Code[code]);
    }
  });

  test("backs off exponentially with full jitter, up to the bound", () => {
    const bounds = [1, 2, 3, 7, 50].map((failures) => backoffMs(failures, defaultRetryPolicy, () => 1));
    assert.deepEqual(bounds, [100, 200, 400, 5000, 5000]);
    assert.equal(
      backoffMs(3, defaultRetryPolicy, () => 0),
      0,
    );
  });

  test("never returns before the server's delay, and not all at once", () => {
    assert.equal(
      retryDelayMs(1, 3000, defaultRetryPolicy, () => 0),
      3000,
    );
    assert.equal(
      retryDelayMs(1, 3000, defaultRetryPolicy, () => 1),
      3600,
    );
    assert.equal(
      retryDelayMs(4, 10, defaultRetryPolicy, () => 1),
      800,
    );
    assert.equal(
      retryDelayMs(1, 1e12, defaultRetryPolicy, () => 0),
      2 ** 31 - 1,
    );
  });

  test("reads Retry-After as seconds and as a date", () => {
    const now = Date.parse("2026-03-01T12:00:00Z");
    assert.equal(parseRetryAfter("120", now), 120_000);
    assert.equal(parseRetryAfter(" 0 ", now), 0);
    assert.equal(parseRetryAfter("Sun, 01 Mar 2026 12:00:30 GMT", now), 30_000);
    assert.equal(parseRetryAfter("Sun, 01 Mar 2026 11:00:00 GMT", now), 0);
    for (const text of [null, "", "-1", "1.5", "soon", "2026-03-01", "Sun, nonsense"]) {
      assert.equal(parseRetryAfter(text, now), undefined, String(text));
    }
  });

  test("sleeps end with their signal and do not reject", async () => {
    const abort = new AbortController();
    const long = sleep(60_000, { signal: abort.signal });
    abort.abort();
    assert.equal(await long, false);
    assert.equal(await sleep(60_000, { signal: abort.signal }), false);
    assert.equal(await sleep(1, { ref: true }), true);
  });
});

test("every file of the contract is exported, by its package and by all", () => {
  const src = path.join(import.meta.dirname, "../sdk/src");
  const all = readFileSync(path.join(src, "messages.ts"), "utf8");
  for (const file of globSync("gen/pulsewire/*/v1/*_pb.js", { cwd: src })) {
    const name = file.split(path.sep)[2] ?? "";
    // Of the options only the scopes are for callers.
    const entry = name === "options" ? "auth" : name;
    const messages = readFileSync(path.join(src, `proto/${entry}.ts`), "utf8");
    assert.ok(messages.includes(`"../${file.replaceAll(path.sep, "/")}"`), file);
    assert.ok(all.includes(`export * from "./proto/${entry}.ts";`), entry);
  }
});

test("UUIDv7: version, variant, time and uniqueness", () => {
  const now = 1_767_225_600_123;
  const id = uuidv7(now);
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16), now);
  assert.equal(new Set(Array.from({ length: 10_000 }, () => uuidv7(now))).size, 10_000);
});

describe("client", () => {
  const login = { email: "a@example.com", password: "secret", tenantSlug: "acme" };

  /** A server that knows one key and one token at a time. */
  async function startServer({ http1 = false } = {}) {
    const state = { logins: 0, token: "none", headers: new Headers(), streamed: 0 };
    const check = ({ requestHeader }: HandlerContext) => {
      state.headers = requestHeader;
      if (requestHeader.get("x-api-key") === "evp_good") return;
      if (requestHeader.get("authorization") === `Bearer ${state.token}`) return;
      throw new ConnectError("who are you?", Code.Unauthenticated, undefined, [
        { desc: ErrorInfoSchema, value: { domain: "pulsewire", reason: "INVALID_TOKEN" } },
      ]);
    };
    const routes = (router: ConnectRouter) => {
      router.service(AuthService, {
        login: async ({ password }) => {
          if (password !== "secret") throw new ConnectError("no", Code.Unauthenticated);
          await sleep(5);
          state.token = `token-${++state.logins}`;
          return { accessToken: state.token, expiresIn: 3600 };
        },
      });
      router.service(MetricsService, {
        listStores: (_request, context) => {
          check(context);
          return { stores: [{ name: "one" }] };
        },
        getStore: async (_request, context) => {
          await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
          throw new ConnectError("late", Code.Canceled);
        },
      });
      router.service(IngestionService, {
        async *watchEvents(_request, context) {
          check(context);
          yield { cursor: "1" };
          await sleep(500);
          yield { cursor: "2" };
          throw new ConnectError("bye", Code.Unavailable, undefined, [
            { desc: ErrorInfoSchema, value: { domain: "pulsewire", reason: "DRAINING" } },
          ]);
        },
      });
    };
    return { state, server: await startConnectServer({ routes, http1 }) };
  }

  for (const protocol of ["grpc", "connect", "grpc-web"] as const) {
    test(`${protocol}: key, headers, unary call, stream and typed error`, async () => {
      const { state, server } = await startServer();
      await using _ = server;
      using client = createClient({
        endpoint: `${server.url}/`,
        apiKey: "evp_good",
        headers: { "x-request-id": "r1" },
        protocol,
        timeoutMs: 400,
      });
      const { stores } = await client.metrics.listStores({});
      assert.equal(stores[0]?.name, "one");
      assert.equal(state.headers.get("x-request-id"), "r1");
      const cursors: string[] = [];
      // The stream is longer than the deadline of unary calls, which is not for streams.
      await assert.rejects(
        async () => {
          for await (const { cursor } of client.ingestion.watchEvents({})) cursors.push(cursor);
        },
        { name: "PulsewireError", code: Code.Unavailable, reason: "DRAINING", message: "bye" },
      );
      assert.deepEqual(cursors, ["1", "2"]);
    });
  }

  for (const protocol of ["connect", "grpc-web"] as const) {
    test(`web entry, ${protocol} over HTTP/1.1`, async () => {
      const { server } = await startServer({ http1: true });
      await using _ = server;
      using client = createWebClient({ endpoint: server.url, apiKey: "evp_good", protocol });
      assert.equal((await client.metrics.listStores({})).stores.length, 1);
      using stranger = createWebClient({ endpoint: server.url, protocol });
      await assert.rejects(stranger.metrics.listStores({}), { reason: "INVALID_TOKEN" });
    });
  }

  test("logs in once for calls that come together, and again when the session has ended", async () => {
    const { state, server } = await startServer();
    await using _ = server;
    using client = createClient({ endpoint: server.url, login });
    assert.equal(state.logins, 0);
    await Promise.all([1, 2, 3].map(() => client.metrics.listStores({})));
    assert.equal(state.logins, 1);
    state.token = "revoked";
    await Promise.all([1, 2, 3].map(() => client.metrics.listStores({})));
    assert.equal(state.logins, 2);
  });

  test("a login that fails is told, and tried again with the next call", async () => {
    const { state, server } = await startServer();
    await using _ = server;
    const wrong = { ...login, password: "wrong" };
    using client = createClient({ endpoint: server.url, login: wrong });
    await assert.rejects(client.metrics.listStores({}), { code: Code.Unauthenticated, message: "no" });
    wrong.password = "secret";
    await client.metrics.listStores({});
    assert.equal(state.logins, 1);
  });

  test("deadline by default and by call, and cancellation", async () => {
    const { server } = await startServer();
    await using _ = server;
    using client = createClient({ endpoint: server.url, apiKey: "evp_good", timeoutMs: 30 });
    const late = { name: "PulsewireError", code: Code.DeadlineExceeded };
    await assert.rejects(client.metrics.getStore({ storeId: "x" }), late);
    await assert.rejects(client.metrics.getStore({ storeId: "x" }, { timeoutMs: 5 }), late);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 5);
    const options = { signal: abort.signal, timeoutMs: 5000 };
    await assert.rejects(client.metrics.getStore({ storeId: "x" }, options), { code: Code.Canceled });
  });

  test("no server: UNAVAILABLE; after close: Canceled", async () => {
    const { server } = await startServer();
    await server.stop();
    const client = createClient({ endpoint: server.url });
    await assert.rejects(client.metrics.listStores({}), { code: Code.Unavailable });
    client.close();
    await assert.rejects(client.metrics.listStores({}), {
      code: Code.Canceled,
      message: "The client is closed.",
    });
  });

  test("a connection that breaks is UNAVAILABLE, not a cancellation", async () => {
    const { server } = await startServer();
    await using _ = server;
    using client = createClient({ endpoint: server.url, apiKey: "evp_good" });
    const running = assert.rejects(client.metrics.getStore({ storeId: "x" }), { code: Code.Unavailable });
    await sleep(30);
    server.cut();
    await running;
  });

  test("close ends what is running", async () => {
    const { server } = await startServer();
    await using _ = server;
    const client = createClient({ endpoint: server.url, apiKey: "evp_good" });
    const running = assert.rejects(client.metrics.getStore({ storeId: "x" }), { code: Code.Canceled });
    await sleep(30);
    client.close();
    await running;
  });

  test("wrong options are refused at once", () => {
    for (const endpoint of ["localhost:8080", "", "ftp://x"]) {
      assert.throws(() => createClient({ endpoint }), { name: "TypeError", message: /endpoint/ });
    }
    assert.throws(() => createClient({ endpoint: "http://x", apiKey: "evp_x", token: "y" }), {
      message: /one of apiKey, token and login/,
    });
  });
});
