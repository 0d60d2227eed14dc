import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { Kysely, PostgresDialect } from "kysely";
import { newResourceId } from "../server/src/auth/ids.ts";
import { createKeyAuthenticator } from "../server/src/auth/keys/authenticate.ts";
import { createKnownKeys } from "../server/src/auth/keys/known-keys.ts";
import { createLastUse } from "../server/src/auth/keys/last-use.ts";
import { newApiKey } from "../server/src/auth/keys/secret.ts";
import { hashPassword } from "../server/src/auth/passwords.ts";
import type { Database } from "../server/src/db/schema.ts";
import { ApiKeyState } from "../server/src/gen/pulsewire/auth/v1/api_key_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { testLogger } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const withKey = (key: string) => ({ headers: { "x-api-key": key } });

/** Calls in JSON over HTTP/1.1. */
async function callJson(url: string, method: string, body: object, headers: Record<string, string>) {
  const response = await fetch(`${url}/pulsewire.auth.v1.AuthService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Calls until the call fails, and says with what and after how long. */
async function untilRefused(call: () => Promise<unknown>, timeoutMs = 10_000) {
  const started = performance.now();
  for (;;) {
    try {
      await call();
    } catch (error) {
      return { error: ConnectError.from(error), tookMs: performance.now() - started };
    }
    assert.ok(performance.now() - started < timeoutMs, `still answered after ${timeoutMs} ms`);
    await sleep(5);
  }
}

describe("API keys", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  let owner: ReturnType<typeof bearer>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_API_KEY_USE_INTERVAL: "1" });
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
    owner = bearer(server.tenant.token);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  /** A person of the first tenant with a session. */
  const signIn = async (role: "ADMIN" | "MEMBER" | "VIEWER") => {
    const { tenantId, slug } = server.tenant;
    const id = newResourceId();
    const email = `${id}@first.example`;
    const password = "a password of one's own";
    await server.database.superuser.query(
      "insert into users (tenant_id, id, email, display_name, password_hash, role) values ($1, $2, $3, '', $4, $5)",
      [tenantId, id, email, await hashPassword(password), role],
    );
    const { accessToken } = await auth.login({ email, password, tenantSlug: slug });
    return { id, ...bearer(accessToken) };
  };
  const makeKey = async (
    request: Parameters<typeof auth.createApiKey>[0] = {},
    who: { headers: Record<string, string> } = owner,
  ) => {
    const { apiKey, secret } = await auth.createApiKey({ name: "key", ...request }, who);
    assert.ok(apiKey);
    return { ...apiKey, secret };
  };
  const works = (secret: string, client = auth) => client.getMe({}, withKey(secret));
  const isRefused = (secret: string, client = auth) =>
    assertFails(works(secret, client), Code.Unauthenticated, "INVALID_API_KEY");

  describe("making", () => {
    test("a key carries what was asked for, and says so", async () => {
      const metrics = createClient(MetricsService, session.transport);
      const { store } = await metrics.createStore({ name: "Berlin" }, owner);
      const expiresAt = new Date(Date.now() + 3_600_000);
      const key = await makeKey({
        scopes: [Scope.METRICS_WRITE, Scope.METRICS_READ],
        storeIds: [store?.id ?? ""],
        allowedIpRanges: ["127.0.0.0/8", "2001:db8::/32"],
        requestsPerMinute: 1_000,
        expiresAt: timestampFromDate(expiresAt),
      });
      const { principal } = await works(key.secret);
      assert.equal(principal.case, "apiKey");
      const shown = principal.value;
      assert.deepEqual(shown.scopes, [Scope.METRICS_WRITE, Scope.METRICS_READ]);
      assert.deepEqual(shown.storeIds, [store?.id]);
      assert.deepEqual(shown.allowedIpRanges, ["127.0.0.0/8", "2001:db8::/32"]);
      assert.equal(shown.requestsPerMinute, 1_000);
      assert.equal(shown.expiresAt && timestampDate(shown.expiresAt).getTime(), expiresAt.getTime());
      assert.equal(shown.state, ApiKeyState.ACTIVE);
      const me = await auth.getMe({}, owner);
      assert.equal(shown.createdBy, me.principal.case === "user" && me.principal.value.id);
    });

    test("fields that break a rule and stores that are not there are refused", async () => {
      const other = await server.register("elsewhere");
      const metrics = createClient(MetricsService, session.transport);
      const foreign = await metrics.createStore({ name: "Paris" }, bearer(other.token));
      for (const [field, request] of [
        ["allowed_ip_ranges[0]", { allowedIpRanges: ["10.0.0.1/8"] }],
        ["allowed_ip_ranges[0]", { allowedIpRanges: ["example.org"] }],
        ["expires_at", { expiresAt: timestampFromDate(new Date(Date.now() - 1_000)) }],
        ["requests_per_minute", { requestsPerMinute: -1 }],
        ["scopes[0]", { scopes: [Scope.PLATFORM_ADMIN] }],
        ["store_ids[0]", { storeIds: ["berlin"] }],
      ] as const) {
        const call = auth.createApiKey({ name: "key", ...request } as object, owner);
        const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
        assert.deepEqual(fields, [field]);
      }
      for (const id of [randomUUID(), foreign.store?.id ?? ""]) {
        const call = auth.createApiKey({ name: "key", storeIds: [id] }, owner);
        const { metadata } = await assertFails(call, Code.NotFound, "NOT_FOUND");
        assert.deepEqual(metadata, { resource: "store", id });
      }
    });

    test("people make keys of what their role carries, with a temporary password none", async () => {
      const member = await signIn("MEMBER");
      const viewer = await signIn("VIEWER");
      const made = await makeKey({ scopes: [Scope.EVENTS_WRITE] }, member);
      assert.equal(made.createdBy, member.id);
      for (const [who, scopes] of [
        [member, [Scope.TENANT_ADMIN]],
        [member, [Scope.EVENTS_READ, Scope.WEBHOOKS_WRITE]],
        [viewer, []],
      ] as const) {
        const call = auth.createApiKey({ name: "more", scopes: [...scopes] }, who);
        await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
      }
      await makeKey({ scopes: [Scope.EVENTS_READ] }, viewer);

      const fresh = await auth.registerTenant({
        name: "Fresh",
        slug: "fresh-keys",
        contactEmail: "owner@fresh.example",
      });
      const { accessToken } = await auth.login({
        email: "owner@fresh.example",
        password: fresh.temporaryPassword,
        tenantSlug: "fresh-keys",
      });
      const early = auth.createApiKey({ name: "early" }, bearer(accessToken));
      await assertFails(early, Code.PermissionDenied, "PASSWORD_CHANGE_REQUIRED");
    });

    test("a key makes keys with TENANT_ADMIN only, and none that is bound less than itself", async () => {
      const metrics = createClient(MetricsService, session.transport);
      const [first, second] = await Promise.all(
        ["Rome", "Oslo"].map(async (name) => (await metrics.createStore({ name }, owner)).store?.id ?? ""),
      );
      assert.ok(first && second);
      const plain = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
      const refused = auth.createApiKey({ name: "x", scopes: [Scope.EVENTS_WRITE] }, withKey(plain.secret));
      await assertFails(refused, Code.PermissionDenied, "MISSING_SCOPE");

      const expiresAt = timestampFromDate(new Date(Date.now() + 60_000));
      const bounds = {
        scopes: [Scope.TENANT_ADMIN, Scope.METRICS_READ],
        storeIds: [first],
        allowedIpRanges: ["127.0.0.0/8", "2001:db8::/32"],
        requestsPerMinute: 500,
        expiresAt,
      };
      const maker = await makeKey(bounds);
      const like = {
        ...bounds,
        scopes: [Scope.METRICS_READ],
        allowedIpRanges: ["127.0.0.1/32", "2001:db8:1::/48"],
        requestsPerMinute: 499,
      };
      const made = await makeKey(like, withKey(maker.secret));
      assert.equal(made.createdBy, maker.id);
      for (const [field, change] of [
        ["store_ids", { storeIds: [] }],
        ["store_ids", { storeIds: [first, second] }],
        ["allowed_ip_ranges", { allowedIpRanges: [] }],
        ["allowed_ip_ranges", { allowedIpRanges: ["127.0.0.1/32", "126.0.0.0/7"] }],
        ["allowed_ip_ranges", { allowedIpRanges: ["0.0.0.0/0"] }],
        ["requests_per_minute", { requestsPerMinute: 0 }],
        ["requests_per_minute", { requestsPerMinute: 501 }],
        ["expires_at", { expiresAt: timestampFromDate(new Date(Date.now() + 120_000)) }],
      ] as const) {
        const call = auth.createApiKey({ name: "x", ...like, ...change } as object, withKey(maker.secret));
        const { metadata } = await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
        assert.equal(metadata.restriction, field);
      }
      const { expiresAt: _, ...forever } = like;
      const call = auth.createApiKey({ name: "x", ...forever }, withKey(maker.secret));
      await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
    });

    test("another tenant is nobody's to make, list, rotate or revoke keys in", async () => {
      const other = await server.register("untouched");
      const { apiKeys } = await auth.listApiKeys({}, bearer(other.token));
      const theirs = apiKeys[0]?.id ?? "";
      const { tenantId } = other;
      const attempts = [
        () => auth.createApiKey({ name: "x", tenantId }, owner),
        () => auth.listApiKeys({ tenantId }, owner),
        () => auth.rotateApiKey({ apiKeyId: theirs, tenantId }, owner),
        () => auth.revokeApiKey({ apiKeyId: theirs, tenantId }, owner),
        () => auth.rotateApiKey({ apiKeyId: theirs }, owner),
        () => auth.revokeApiKey({ apiKeyId: theirs }, owner),
        () => auth.revokeApiKey({ apiKeyId: theirs }, withKey(server.tenant.apiKey)),
      ];
      for (const attempt of attempts) await assertFails(attempt(), Code.NotFound, "NOT_FOUND");
      await works(other.apiKey);
    });
  });

  describe("for operators", () => {
    test("a platform admin makes, lists, rotates and revokes keys of any tenant that there is", async () => {
      const other = await server.register("reached");
      const { email, slug } = server.tenant;
      await using operated = await serve(server.database, { PULSEWIRE_PLATFORM_ADMINS: `${email}/${slug}` });
      using there = grpcSession(operated.url);
      const client = createClient(AuthService, there.transport);
      const { tenantId } = other;
      const { apiKey, secret } = await client.createApiKey({ name: "theirs", tenantId }, owner);
      assert.equal(apiKey?.tenantId, tenantId);
      const me = await client.getMe({}, withKey(secret));
      assert.equal(me.tenant?.id, tenantId);
      const { apiKeys } = await client.listApiKeys({ tenantId }, owner);
      assert.deepEqual(
        apiKeys.map(({ name }) => name),
        ["theirs", "tests"],
      );
      const rotated = await client.rotateApiKey({ apiKeyId: apiKey.id, tenantId }, owner);
      await client.revokeApiKey({ apiKeyId: rotated.apiKey?.id ?? "", tenantId }, owner);
      await isRefused(rotated.secret, client);
      const nowhere = randomUUID();
      for (const attempt of [
        () => client.createApiKey({ name: "x", tenantId: nowhere }, owner),
        () => client.listApiKeys({ tenantId: nowhere }, owner),
        () => client.revokeApiKey({ apiKeyId: apiKey.id, tenantId: nowhere }, owner),
      ]) {
        await assertFails(attempt(), Code.NotFound, "NOT_FOUND");
      }
      // Nor do the keys of a platform admin reach beyond their tenant.
      const call = client.listApiKeys({ tenantId }, withKey(server.tenant.apiKey));
      await assertFails(call, Code.NotFound, "NOT_FOUND");
    });

    test("a tenant has no more usable keys than its limit, however they are asked for", async () => {
      const tenant = await server.register("few-keys");
      const who = bearer(tenant.token);
      await using narrow = await serve(server.database, { PULSEWIRE_TENANT_LIMITS: "api_keys=3" });
      using there = grpcSession(narrow.url);
      const client = createClient(AuthService, there.transport);
      const attempts = await Promise.allSettled(
        Array.from({ length: 8 }, () => client.createApiKey({ name: "one of few" }, who)),
      );
      assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 2);
      const { metadata } = await assertFails(
        client.createApiKey({ name: "x" }, who),
        Code.ResourceExhausted,
        "TENANT_LIMIT",
      );
      assert.equal(metadata.limit, "api_keys");
      const { apiKeys } = await client.listApiKeys({}, who);
      await client.revokeApiKey({ apiKeyId: apiKeys[0]?.id ?? "" }, who);
      await client.createApiKey({ name: "again" }, who);
    });
  });

  describe("using", () => {
    test("a key works from its addresses only", async () => {
      const here = await makeKey({ allowedIpRanges: ["127.0.0.0/8"] });
      const elsewhere = await makeKey({ allowedIpRanges: ["192.0.2.0/24", "2001:db8::/32"] });
      await works(here.secret);
      const { metadata } = await assertFails(
        works(elsewhere.secret),
        Code.PermissionDenied,
        "KEY_RESTRICTED",
      );
      assert.deepEqual(metadata, { restriction: "allowed_ip_ranges", address: "127.0.0.1" });
      // Nobody is trusted to say otherwise.
      const spoofed = auth.getMe(
        {},
        { headers: { "x-api-key": elsewhere.secret, "x-forwarded-for": "192.0.2.1" } },
      );
      await assertFails(spoofed, Code.PermissionDenied, "KEY_RESTRICTED");
      const answer = await callJson(server.url, "GetMe", {}, { "x-api-key": elsewhere.secret });
      assert.equal(answer.status, 403);
      // Nor does it matter which way a call takes to its handler: over HTTP/2 these cross a bridge.
      const sessionManager = new Http2SessionManager(server.url);
      const options = { baseUrl: server.url, httpVersion: "2", sessionManager } as const;
      for (const transport of [
        createGrpcWebTransport(options),
        createGrpcTransport({
          baseUrl: server.url,
          sessionManager,
          sendCompression: compressionGzip,
          compressMinBytes: 0,
        }),
      ]) {
        const client = createClient(AuthService, transport);
        await client.getMe({}, withKey(here.secret));
        const refused = client.getMe({}, withKey(elsewhere.secret));
        const told = await assertFails(refused, Code.PermissionDenied, "KEY_RESTRICTED");
        assert.equal(told.metadata.address, "127.0.0.1");
      }
      sessionManager.abort();
    });

    test("an expired key stops working on time, though it was seen a moment before", async () => {
      const expiresAt = new Date(Date.now() + 1_200);
      const key = await makeKey({ expiresAt: timestampFromDate(expiresAt) });
      const { error } = await untilRefused(() => works(key.secret));
      const late = Date.now() - expiresAt.getTime();
      assert.equal(error.code, Code.Unauthenticated);
      assert.ok(late >= 0 && late < 1_000, `${late} ms after its expiry`);
      const { apiKeys } = await auth.listApiKeys({ includeInactive: true }, owner);
      assert.equal(apiKeys.find(({ id }) => id === key.id)?.state, ApiKeyState.EXPIRED);
    });

    test("the last use is shown within the interval, and not written for each call", async () => {
      const key = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
      const ingestion = createClient(IngestionService, session.transport);
      const version = async () => {
        const { rows } = await server.database.superuser.query(
          "select xmin::text as writer, last_used_at, last_used_address from api_keys where id = $1",
          [key.id],
        );
        return rows[0];
      };
      const before = await version();
      assert.equal(before.last_used_at, null);
      const started = Date.now();
      const writers = new Set<string>();
      let calls = 0;
      let seen = before;
      while (seen.last_used_at === null) {
        await ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(key.secret));
        calls++;
        seen = await version();
        writers.add(seen.writer);
        assert.ok(Date.now() - started < 10_000, "not written");
      }
      assert.ok(calls > 5 && writers.size === 2, `${calls} calls, ${writers.size} versions of the row`);
      assert.equal(seen.last_used_address, "127.0.0.1");
      const { apiKeys } = await auth.listApiKeys({}, owner);
      const listed = apiKeys.find(({ id }) => id === key.id);
      const usedAt = listed?.lastUsedAt && timestampDate(listed.lastUsedAt).getTime();
      assert.ok(usedAt && usedAt >= started - 1 && usedAt <= Date.now());
    });

    test("what was noted is written when the server ends, and a later use stays", async () => {
      const key = await makeKey();
      const other = await serve(server.database, { PULSEWIRE_API_KEY_USE_INTERVAL: "60" });
      try {
        using there = grpcSession(other.url);
        await works(key.secret, createClient(AuthService, there.transport));
      } finally {
        await other[Symbol.asyncDispose]();
      }
      const lastUse = async () => {
        const { rows } = await server.database.superuser.query(
          "select last_used_at from api_keys where id = $1",
          [key.id],
        );
        return rows[0].last_used_at as Date | null;
      };
      const written = await lastUse();
      assert.ok(written);
      const later = new Date(Date.now() + 3_600_000);
      await server.database.superuser.query("update api_keys set last_used_at = $2 where id = $1", [
        key.id,
        later,
      ]);
      const third = await serve(server.database, { PULSEWIRE_API_KEY_USE_INTERVAL: "60" });
      try {
        using there = grpcSession(third.url);
        await works(key.secret, createClient(AuthService, there.transport));
      } finally {
        await third[Symbol.asyncDispose]();
      }
      assert.equal((await lastUse())?.getTime(), later.getTime());
    });

    test("a last use that cannot be written is written later, those of many tenants and keys together", async () => {
      const tenants = [await server.register("late-1"), await server.register("late-2")];
      const { app, superuser } = server.database;
      const lastUse = createLastUse(app.db, testLogger, 60_000);
      const ids: string[] = [];
      for (const tenant of tenants) {
        const { apiKeys } = await auth.listApiKeys({}, bearer(tenant.token));
        for (const { id } of apiKeys) {
          ids.push(id);
          lastUse.note(tenant.tenantId, id, "192.0.2.1");
          lastUse.note(tenant.tenantId, id, "192.0.2.2");
        }
      }
      const written = async () => {
        const { rows } = await superuser.query<{ at: Date; address: string }>(
          "select last_used_at as at, last_used_address as address from api_keys where id = any($1) and last_used_at is not null",
          [ids],
        );
        return rows.map(({ address }) => address);
      };
      await superuser.query("revoke update on api_keys from pulsewire_app");
      await lastUse.flush();
      await superuser.query("grant update on api_keys to pulsewire_app");
      assert.deepEqual(await written(), []);
      await Promise.all([lastUse.flush(), lastUse.flush()]);
      assert.deepEqual(await written(), ["192.0.2.2", "192.0.2.2"]);
      await lastUse.close();
    });

    test("once warm a key costs no query, a wrong one no more than one", async () => {
      const key = await makeKey();
      let queries = 0;
      const db = new Kysely<Database>({
        dialect: new PostgresDialect({ pool: server.database.app.pool }),
        log: () => {
          queries++;
        },
      });
      const { config, bus } = server.context;
      const known = createKnownKeys(bus, config.auth);
      const noted: string[] = [];
      const authenticate = createKeyAuthenticator({
        db,
        config,
        known,
        lastUse: {
          note: (_tenant, id) => noted.push(id),
          flush: async () => {},
          close: async () => {},
        },
      });
      await Promise.all(Array.from({ length: 50 }, () => authenticate(key.secret, "192.0.2.1")));
      const cold = queries;
      assert.ok(cold > 0 && cold <= 4, `${cold} queries for calls that arrive together`);
      for (let i = 0; i < 2_000; i++) await authenticate(key.secret, "192.0.2.1");
      assert.equal(queries, cold);
      assert.equal(noted.length, 2_050);
      const wrong = newApiKey();
      for (let i = 0; i < 50; i++) await assert.rejects(async () => await authenticate(wrong, "192.0.2.1"));
      assert.ok(queries <= 2 * cold, `${queries - cold} queries for a wrong key`);
      const asked = queries;
      const misspelt = `${wrong.slice(0, 9)}${wrong[9] === "A" ? "B" : "A"}${wrong.slice(10)}`;
      await assert.rejects(async () => await authenticate(misspelt, "192.0.2.1"), /misspelt/);
      assert.equal(queries, asked, "a wrong checksum is seen without a query");
      known.close();
    });

    test("what is remembered is bounded", () => {
      const known = createKnownKeys(server.context.bus, { apiKeyCacheSize: 10, unknownApiKeyCacheSize: 10 });
      for (let i = 0; i < 100; i++) known.setUnknown(`hash ${i}`);
      const remembered = Array.from({ length: 100 }, (_, i) => known.isUnknown(`hash ${i}`));
      assert.equal(remembered.filter(Boolean).length, 10);
      known.close();
    });
  });

  describe("listing", () => {
    test("pages, newest first, without secrets, filtered by maker and state", async () => {
      const tenant = await server.register("lists");
      const who = bearer(tenant.token);
      const keys = [];
      for (let i = 0; i < 7; i++) {
        keys.push(await makeKey({ name: `key ${i}`, scopes: [Scope.TENANT_ADMIN, Scope.EVENTS_READ] }, who));
      }
      const [ended, maker] = keys;
      assert.ok(ended && maker);
      await auth.revokeApiKey({ apiKeyId: ended.id }, who);
      const child = await makeKey({ name: "child", scopes: [Scope.EVENTS_READ] }, withKey(maker.secret));

      const names: string[] = [];
      let pageToken = "";
      do {
        const page = await auth.listApiKeys({ pageSize: 3, pageToken }, who);
        assert.ok(page.apiKeys.length <= 3);
        names.push(...page.apiKeys.map(({ name }) => name));
        pageToken = page.nextPageToken;
      } while (pageToken);
      assert.deepEqual(names, ["child", "key 6", "key 5", "key 4", "key 3", "key 2", "key 1", "tests"]);

      const all = await auth.listApiKeys({ includeInactive: true }, who);
      assert.equal(all.apiKeys.length, 9);
      assert.equal(all.apiKeys.find(({ id }) => id === ended.id)?.state, ApiKeyState.REVOKED);
      const made = await auth.listApiKeys({ createdBy: maker.id }, who);
      assert.deepEqual(
        made.apiKeys.map(({ id }) => id),
        [child.id],
      );
      const json = JSON.stringify((await callJson(server.url, "ListApiKeys", {}, who.headers)).body);
      for (const { secret } of [...keys, child]) assert.ok(!json.includes(secret.slice(12)));

      const page = await auth.listApiKeys({ pageSize: 1 }, who);
      for (const request of [
        { pageToken: page.nextPageToken, includeInactive: true },
        { pageToken: page.nextPageToken, createdBy: maker.id },
        { pageToken: "nonsense" },
      ]) {
        await assertFails(auth.listApiKeys(request, who), Code.InvalidArgument, "INVALID_CURSOR");
      }
      const foreign = auth.listApiKeys({ pageToken: page.nextPageToken }, owner);
      await assertFails(foreign, Code.InvalidArgument, "INVALID_CURSOR");
    });

    test("needs TENANT_READ", async () => {
      const key = await makeKey({ scopes: [Scope.EVENTS_READ] });
      const call = auth.listApiKeys({}, withKey(key.secret));
      await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
    });
  });

  describe("rotating", () => {
    test("both keys work until the overlap ends, and each names the other", async () => {
      const expiresAt = timestampFromDate(new Date(Date.now() + 7 * 86_400_000));
      const old = await makeKey({
        name: "gateway 7",
        scopes: [Scope.EVENTS_WRITE],
        allowedIpRanges: ["127.0.0.0/8"],
        requestsPerMinute: 77,
        expiresAt,
      });
      await works(old.secret);
      const before = Date.now();
      const rotated = await auth.rotateApiKey({ apiKeyId: old.id }, owner);
      const { apiKey, previousApiKey } = rotated;
      assert.ok(apiKey && previousApiKey);
      assert.notEqual(rotated.secret, old.secret);
      assert.deepEqual(
        [apiKey.name, apiKey.scopes, apiKey.allowedIpRanges, apiKey.requestsPerMinute, apiKey.expiresAt],
        ["gateway 7", [Scope.EVENTS_WRITE], ["127.0.0.0/8"], 77, expiresAt],
      );
      assert.equal(apiKey.rotatedFrom, old.id);
      assert.equal(apiKey.state, ApiKeyState.ACTIVE);
      assert.equal(previousApiKey.rotatedTo, apiKey.id);
      assert.equal(previousApiKey.state, ApiKeyState.ROTATED);
      const end = previousApiKey.expiresAt && timestampDate(previousApiKey.expiresAt).getTime();
      assert.ok(end && Math.abs(end - before - 86_400_000) < 10_000);
      await works(old.secret);
      await works(rotated.secret);

      const again = auth.rotateApiKey({ apiKeyId: old.id }, owner);
      await assertFails(again, Code.FailedPrecondition, "FAILED_PRECONDITION");
      // Ending the old one at once does not end its successor.
      await auth.revokeApiKey({ apiKeyId: old.id }, owner);
      await isRefused(old.secret);
      await works(rotated.secret);
    });

    test("a short overlap ends on time; the old key never outlives its own expiry", async () => {
      const old = await makeKey();
      await works(old.secret);
      const { previousApiKey, secret } = await auth.rotateApiKey(
        { apiKeyId: old.id, overlap: durationFromMs(1_000) },
        owner,
      );
      const { error } = await untilRefused(() => works(old.secret));
      const end = previousApiKey?.expiresAt && timestampDate(previousApiKey.expiresAt).getTime();
      assert.equal(error.code, Code.Unauthenticated);
      assert.ok(end && Date.now() - end < 1_000 && Date.now() >= end);
      await works(secret);

      const expiresAt = timestampFromDate(new Date(Date.now() + 60_000));
      const brief = await makeKey({ expiresAt });
      const changed = await auth.rotateApiKey({ apiKeyId: brief.id }, owner);
      assert.deepEqual(changed.previousApiKey?.expiresAt, expiresAt);
      assert.deepEqual(changed.apiKey?.expiresAt, expiresAt);
    });

    test("of rotations that arrive together one succeeds", async () => {
      const old = await makeKey();
      const attempts = await Promise.allSettled(
        Array.from({ length: 8 }, () => auth.rotateApiKey({ apiKeyId: old.id }, owner)),
      );
      assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
      const { rows } = await server.database.superuser.query(
        "select count(*)::int as n from api_keys where rotated_from = $1",
        [old.id],
      );
      assert.equal(rows[0].n, 1);
    });

    test("is for who administers keys, and for people's own; never gives more than one has", async () => {
      const member = await signIn("MEMBER");
      const own = await makeKey({ scopes: [Scope.EVENTS_WRITE] }, member);
      const others = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
      const { apiKey } = await auth.rotateApiKey({ apiKeyId: own.id }, member);
      assert.equal(apiKey?.createdBy, member.id);
      for (const who of [member, withKey(others.secret)]) {
        const call = auth.rotateApiKey({ apiKeyId: others.id }, who);
        await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
      }
      const maker = await makeKey({ scopes: [Scope.TENANT_ADMIN, Scope.EVENTS_READ] });
      const call = auth.rotateApiKey({ apiKeyId: others.id }, withKey(maker.secret));
      const { metadata } = await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
      assert.equal(metadata.scopes, "EVENTS_WRITE");
      const unknown = auth.rotateApiKey({ apiKeyId: randomUUID() }, owner);
      await assertFails(unknown, Code.NotFound, "NOT_FOUND");
      const tooLong = auth.rotateApiKey(
        { apiKeyId: others.id, overlap: durationFromMs(31 * 86_400_000) },
        owner,
      );
      await assertFails(tooLong, Code.InvalidArgument, "INVALID_FIELD");
    });
  });

  describe("revoking", () => {
    test("a key may end itself, people their own, and only who administers keys another's", async () => {
      const member = await signIn("MEMBER");
      const own = await makeKey({ scopes: [Scope.EVENTS_WRITE] }, member);
      const others = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
      for (const who of [member, withKey(own.secret)]) {
        const call = auth.revokeApiKey({ apiKeyId: others.id }, who);
        await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
      }
      const { apiKey } = await auth.revokeApiKey({ apiKeyId: others.id }, withKey(others.secret));
      assert.equal(apiKey?.state, ApiKeyState.REVOKED);
      await isRefused(others.secret);
      await auth.revokeApiKey({ apiKeyId: own.id }, member);
      await isRefused(own.secret);
      const admin = await signIn("ADMIN");
      const third = await makeKey({}, member);
      const first = await auth.revokeApiKey({ apiKeyId: third.id }, admin);
      const again = await auth.revokeApiKey({ apiKeyId: third.id }, admin);
      assert.deepEqual(again.apiKey?.revokedAt, first.apiKey?.revokedAt);
      const unknown = auth.revokeApiKey({ apiKeyId: randomUUID() }, owner);
      await assertFails(unknown, Code.NotFound, "NOT_FOUND");
    });

    test("in JSON as in gRPC", async () => {
      const headers = { "x-api-key": server.tenant.apiKey };
      const made = await callJson(server.url, "CreateApiKey", { name: "json" }, headers);
      assert.equal(made.status, 200);
      const secret = made.body.secret as string;
      assert.equal((await callJson(server.url, "GetMe", {}, { "x-api-key": secret })).status, 200);
      const rotated = await callJson(
        server.url,
        "RotateApiKey",
        { apiKeyId: made.body.apiKey.id, overlap: "0s" },
        headers,
      );
      assert.equal(rotated.status, 200);
      assert.equal(rotated.body.previousApiKey.state, "API_KEY_STATE_EXPIRED");
      const refused = await callJson(server.url, "GetMe", {}, { "x-api-key": secret });
      assert.equal(refused.status, 401);
      const ended = await callJson(
        server.url,
        "RevokeApiKey",
        { apiKeyId: rotated.body.apiKey.id },
        { "x-api-key": rotated.body.secret },
      );
      assert.equal(ended.body.apiKey.state, "API_KEY_STATE_REVOKED");
    });

    test("a revoked or rotated key stops working in another process within a second", async () => {
      await using other = await serve(server.database);
      using there = grpcSession(other.url);
      const elsewhere = createClient(AuthService, there.transport);
      for (let round = 0; round < 5; round++) {
        const [revoked, rotated] = [await makeKey(), await makeKey()];
        for (const { secret } of [revoked, rotated]) {
          await works(secret);
          await works(secret, elsewhere);
        }
        await Promise.all([
          auth.revokeApiKey({ apiKeyId: revoked.id }, owner),
          auth.rotateApiKey({ apiKeyId: rotated.id, overlap: durationFromMs(0) }, owner),
        ]);
        for (const { secret } of [revoked, rotated]) {
          await isRefused(secret);
          const { error, tookMs } = await untilRefused(() => works(secret, elsewhere));
          assert.equal(error.code, Code.Unauthenticated);
          assert.ok(tookMs < 1_000, `${tookMs} ms`);
        }
      }
    });

    test("also while processes cannot tell each other anything", async () => {
      await using other = await serve(server.database);
      using there = grpcSession(other.url);
      const elsewhere = createClient(AuthService, there.transport);
      const key = await makeKey();
      await works(key.secret);
      await works(key.secret, elsewhere);
      const { superuser, name } = server.database;
      const buses = [server.context.bus, other.context.bus];
      await superuser.query(`alter database ${name} connection limit 0`);
      try {
        await superuser.query(
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name = 'pulsewire-bus'",
          [name],
        );
        while (buses.some(({ connected }) => connected)) await sleep(5);
        await works(key.secret, elsewhere);
        const revoking = auth.revokeApiKey({ apiKeyId: key.id }, owner).catch(ConnectError.from);
        const committed = async () => {
          const { rows } = await superuser.query("select revoked_at from api_keys where id = $1", [key.id]);
          return rows[0].revoked_at !== null;
        };
        while (!(await committed())) await sleep(5);
        const { error, tookMs } = await untilRefused(() => works(key.secret, elsewhere));
        assert.equal(error.code, Code.Unauthenticated);
        assert.ok(tookMs < 1_000, `${tookMs} ms`);
        // Whoever revokes is told that the others were not.
        const failed = await revoking;
        assert.ok(failed instanceof ConnectError);
        await assertFails(Promise.reject(failed), Code.Unavailable, "DEPENDENCY_UNAVAILABLE");
      } finally {
        await superuser.query(`alter database ${name} connection limit -1`);
      }
      while (buses.some(({ connected }) => !connected)) await sleep(5);
      await auth.revokeApiKey({ apiKeyId: key.id }, owner);
      await isRefused(key.secret, elsewhere);
    });

    test("under load no call is answered later than a second after the revocation", async () => {
      await using other = await serve(server.database);
      using there = grpcSession(other.url);
      const clients = [auth, createClient(AuthService, there.transport)];
      const key = await makeKey();
      let revokedAt = Number.POSITIVE_INFINITY;
      let latest = 0;
      let running = true;
      const callers = Array.from({ length: 16 }, async (_, i) => {
        while (running) {
          const started = performance.now();
          const answered = await works(key.secret, clients[i % 2]).then(
            () => true,
            () => false,
          );
          if (answered && started > revokedAt) latest = Math.max(latest, started - revokedAt);
          if (!answered) await sleep(5);
        }
      });
      await works(key.secret);
      await auth.revokeApiKey({ apiKeyId: key.id }, owner);
      revokedAt = performance.now();
      await sleep(1_500);
      running = false;
      await Promise.all(callers);
      assert.ok(latest < 1_000, `a call that began ${latest} ms later was answered`);
    });
  });
});
