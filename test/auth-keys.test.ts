/** API keys: making, listing, and what operators may do with them. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, test } from "node:test";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { ApiKeyState } from "../server/src/gen/pulsewire/auth/v1/api_key_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { bearer, callJson, startKeyServer, withKey } from "./helpers/api-keys.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve } from "./helpers/server.ts";

const keys = await startKeyServer();
after(() => keys[Symbol.asyncDispose]());
const { server, session, auth, owner, signIn, makeKey, works, isRefused } = keys;

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
