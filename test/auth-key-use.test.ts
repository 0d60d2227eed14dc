/** API keys in use: where and for what they work, what is remembered of them, and their last use. */
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { Kysely, PostgresDialect } from "kysely";
import { createKeyAuthenticator } from "../server/src/auth/keys/authenticate.ts";
import { createKnownKeys } from "../server/src/auth/keys/known-keys.ts";
import { createLastUse } from "../server/src/auth/keys/last-use.ts";
import { newApiKey } from "../server/src/auth/keys/secret.ts";
import type { Database } from "../server/src/db/schema.ts";
import { ApiKeyState } from "../server/src/gen/pulsewire/auth/v1/api_key_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { bearer, callJson, startKeyServer, untilRefused, withKey } from "./helpers/api-keys.ts";
import { testLogger } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve } from "./helpers/server.ts";

const keys = await startKeyServer();
after(() => keys[Symbol.asyncDispose]());
const { server, session, auth, owner, makeKey, works } = keys;

describe("using", () => {
  test("a key works from its addresses only", async () => {
    const here = await makeKey({ allowedIpRanges: ["127.0.0.0/8"] });
    const elsewhere = await makeKey({ allowedIpRanges: ["192.0.2.0/24", "2001:db8::/32"] });
    await works(here.secret);
    const { metadata } = await assertFails(works(elsewhere.secret), Code.PermissionDenied, "KEY_RESTRICTED");
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
