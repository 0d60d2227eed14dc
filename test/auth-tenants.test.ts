import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { envToConfig } from "../server/src/config/config.ts";
import { ConfigError } from "../server/src/config/values.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { TenantState } from "../server/src/gen/pulsewire/auth/v1/tenant_pb.js";
import { Role, UserState } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import {
  bearer,
  callJson,
  startPlatform,
  type TestPlatform,
  untilRefused,
  withKey,
} from "./helpers/platform.ts";
import { grpcSession, type TestTenant } from "./helpers/server.ts";

describe("tenants", () => {
  let platform: TestPlatform;
  let auth: Client<typeof AuthService>;
  let operator: ReturnType<typeof bearer>;
  let acme: TestTenant;
  let session: ReturnType<typeof grpcSession>;

  before(async () => {
    platform = await startPlatform();
    ({ auth, operator } = platform);
    acme = await platform.base.register("acme");
    session = grpcSession(platform.url);
  });
  after(async () => {
    session[Symbol.dispose]();
    await platform[Symbol.asyncDispose]();
  });

  test("a platform admin makes a tenant, whose owner signs in with a temporary password", async () => {
    const made = await auth.createTenant(
      {
        name: "Made",
        slug: "made",
        contactEmail: "office@made.example",
        ownerEmail: "Boss@Made.example",
        limits: { stores: 3n },
      },
      operator,
    );
    assert.equal(made.tenant?.state, TenantState.ACTIVE);
    assert.equal(made.tenant?.contactEmail, "office@made.example");
    assert.deepEqual(made.tenant?.limits?.stores, 3n);
    assert.equal(made.tenant?.limits?.users, undefined);
    assert.equal(made.owner?.email, "boss@made.example");
    assert.deepEqual([made.owner?.role, made.owner?.state], [Role.OWNER, UserState.INVITED]);
    assert.equal(made.owner?.mustChangePassword, true);
    const login = await auth.login({
      email: "boss@made.example",
      password: made.temporaryPassword,
      tenantSlug: "made",
    });
    assert.equal(login.user?.state, UserState.ACTIVE);
    const taken = auth.createTenant({ name: "A", slug: "made", contactEmail: "a@b.example" }, operator);
    assert.deepEqual((await assertFails(taken, Code.AlreadyExists, "ALREADY_EXISTS")).fields, ["slug"]);
  });

  test("nobody else acts for the platform, and no key ever does", async () => {
    const request = { name: "No", slug: "nope", contactEmail: "a@nope.example" };
    for (const credentials of [
      bearer(acme.token),
      withKey(acme.apiKey),
      withKey(platform.base.tenant.apiKey),
    ]) {
      await assertFails(auth.createTenant(request, credentials), Code.PermissionDenied, "MISSING_SCOPE");
      await assertFails(auth.listTenants({}, credentials), Code.PermissionDenied, "MISSING_SCOPE");
    }
    const key = auth.createApiKey({ name: "all", scopes: [Scope.PLATFORM_ADMIN] }, operator);
    await assertFails(key, Code.InvalidArgument, "INVALID_FIELD");
    const { user } = await auth.login({
      email: platform.base.tenant.email,
      password: platform.base.tenant.password,
      tenantSlug: "first",
    });
    assert.equal(user?.platformAdmin, true);
    const me = await auth.getMe({}, operator);
    assert.ok(me.scopes.includes(Scope.PLATFORM_ADMIN));
    const theirs = await auth.getMe({}, bearer(acme.token));
    assert.ok(!theirs.scopes.includes(Scope.PLATFORM_ADMIN));
  });

  test("a server that does not name them does not know them", async () => {
    using base = grpcSession(platform.base.url);
    const there = createClient(AuthService, base.transport);
    await assertFails(there.listTenants({}, operator), Code.PermissionDenied, "MISSING_SCOPE");
  });

  test("lists tenants by slug, page by page, filtered", async () => {
    for (const slug of ["list-c", "list-a", "list-b"]) {
      await auth.createTenant({ name: `The ${slug}`, slug, contactEmail: "a@list.example" }, operator);
    }
    const slugs: string[] = [];
    let pageToken = "";
    do {
      const page = await auth.listTenants({ nameContains: "THE LIST", pageSize: 2, pageToken }, operator);
      assert.ok(page.tenants.length <= 2);
      slugs.push(...page.tenants.map(({ slug }) => slug));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(slugs, ["list-a", "list-b", "list-c"]);

    const first = await auth.listTenants({ nameContains: "list-", pageSize: 1 }, operator);
    for (const request of [
      { pageToken: first.nextPageToken },
      { nameContains: "list-", pageToken: "x" },
      { nameContains: "list-", state: TenantState.ACTIVE, pageToken: first.nextPageToken },
    ]) {
      await assertFails(auth.listTenants(request, operator), Code.InvalidArgument, "INVALID_CURSOR");
    }
    const suspended = await auth.listTenants({ state: TenantState.SUSPENDED }, operator);
    assert.deepEqual(suspended.tenants, []);
  });

  test("one's own tenant is found, another's is not, over gRPC and JSON", async () => {
    const own = await auth.getTenant({ tenantId: acme.tenantId }, bearer(acme.token));
    assert.equal(own.tenant?.slug, "acme");
    const { tenantId: foreign } = platform.base.tenant;
    for (const tenantId of [foreign, randomUUID()]) {
      for (const credentials of [bearer(acme.token), withKey(acme.apiKey)]) {
        await assertFails(auth.getTenant({ tenantId }, credentials), Code.NotFound, "NOT_FOUND");
        await assertFails(auth.getTenantStats({ tenantId }, credentials), Code.NotFound, "NOT_FOUND");
        const update = { tenantId, name: "Mine", updateMask: { paths: ["name"] } };
        await assertFails(auth.updateTenant(update, credentials), Code.NotFound, "NOT_FOUND");
        const json = await callJson(platform.url, "GetTenant", { tenantId }, credentials);
        assert.equal(json.status, 404);
      }
    }
    await assertFails(auth.getTenant({ tenantId: randomUUID() }, operator), Code.NotFound, "NOT_FOUND");
    const any = await callJson(
      platform.url,
      "GetTenant",
      { tenantId: acme.tenantId.toUpperCase() },
      operator,
    );
    assert.equal(any.body.tenant.slug, "acme");
  });

  test("changes what the mask names and nothing else", async () => {
    const { tenantId } = acme;
    const owner = bearer(acme.token);
    const before = (await auth.getTenant({ tenantId }, owner)).tenant;
    const { tenant: named } = await auth.updateTenant(
      { tenantId, name: "Acme Ltd", contactEmail: "ignored@acme.example", updateMask: { paths: ["name"] } },
      owner,
    );
    assert.deepEqual([named?.name, named?.contactEmail], ["Acme Ltd", before?.contactEmail]);
    assert.notEqual(named?.etag, before?.etag);

    const stale = { tenantId, name: "Late", updateMask: { paths: ["name"] }, etag: before?.etag ?? "" };
    await assertFails(auth.updateTenant(stale, owner), Code.Aborted, "ETAG_MISMATCH");
    for (const paths of [["slug"], ["limits.nothing"], ["name", "id"], []]) {
      const refused = auth.updateTenant({ tenantId, name: "X", updateMask: { paths } }, owner);
      assert.deepEqual((await assertFails(refused, Code.InvalidArgument, "INVALID_FIELD")).fields, [
        "update_mask",
      ]);
    }
    const emptied = auth.updateTenant({ tenantId, updateMask: { paths: ["contact_email"] } }, owner);
    assert.deepEqual((await assertFails(emptied, Code.InvalidArgument, "INVALID_FIELD")).fields, [
      "contact_email",
    ]);
  });

  test("limits and state are the platform's to change", async () => {
    const { tenantId } = await platform.base.register("limited");
    const limitedOwner = await platform.person({ tenantId, slug: "limited" }, "OWNER");
    for (const paths of [["limits"], ["limits.users"], ["state"], ["name", "state"]]) {
      const update = { tenantId, name: "X", state: TenantState.ACTIVE, limits: {}, updateMask: { paths } };
      await assertFails(auth.updateTenant(update, limitedOwner), Code.PermissionDenied, "MISSING_SCOPE");
    }
    const set = (limits: object, paths: string[]) =>
      auth.updateTenant({ tenantId, limits, updateMask: { paths } }, operator);
    await set({ users: 10n, stores: 5n }, ["limits"]);
    await set({ users: 0n, apiKeys: 7n }, ["limits.users", "limits.api_keys"]);
    const { tenant } = await set({ apiKeys: 1n }, ["limits.stores"]);
    assert.deepEqual(
      [tenant?.limits?.users, tenant?.limits?.stores, tenant?.limits?.apiKeys],
      [0n, undefined, 7n],
    );
    const { stats } = await auth.getTenantStats({ tenantId }, limitedOwner);
    assert.deepEqual([stats?.limits?.users, stats?.limits?.stores, stats?.limits?.apiKeys], [0n, 0n, 7n]);
    const none = (await set({}, ["limits"])).tenant?.limits;
    assert.deepEqual([none?.users, none?.apiKeys], [undefined, undefined]);
  });

  test("a suspended tenant is closed everywhere within a second, and open again as fast", async () => {
    const tenant = await platform.base.register("closed");
    const { tenantId } = tenant;
    const { elsewhere } = platform;
    const ingestion = createClient(IngestionService, session.transport);
    const me = () => elsewhere.getMe({}, bearer(tenant.token));
    const byKey = () => elsewhere.getMe({}, withKey(tenant.apiKey));
    const send = () => ingestion.ingestEvent({ event: { eventType: "x" } }, withKey(tenant.apiKey));
    await Promise.all([me(), byKey(), send()]);
    const setState = (state: TenantState) =>
      auth.updateTenant({ tenantId, state, updateMask: { paths: ["state"] } }, operator);

    const { tenant: after } = await setState(TenantState.SUSPENDED);
    assert.equal(after?.state, TenantState.SUSPENDED);
    for (const call of [me, byKey, send]) {
      assert.ok((await untilRefused(call, "TENANT_SUSPENDED")) < 1_000);
    }
    const { email, password, slug } = tenant;
    const login = { email, password, tenantSlug: slug };
    await assertFails(auth.login(login), Code.PermissionDenied, "TENANT_SUSPENDED");
    const wrong = auth.login({ ...login, password: "wrong" });
    await assertFails(wrong, Code.Unauthenticated, "INVALID_LOGIN");
    const json = await callJson(platform.otherUrl, "GetMe", {}, withKey(tenant.apiKey));
    assert.equal(json.status, 403);

    await setState(TenantState.ACTIVE);
    const started = performance.now();
    while (performance.now() - started < 1_000)
      if (
        await byKey().then(
          () => true,
          () => false,
        )
      )
        break;
    await Promise.all([me(), byKey(), send()]);
    assert.ok(performance.now() - started < 1_500);

    const own = auth.updateTenant(
      {
        tenantId: platform.base.tenant.tenantId,
        state: TenantState.SUSPENDED,
        updateMask: { paths: ["state"] },
      },
      operator,
    );
    await assertFails(own, Code.FailedPrecondition, "FAILED_PRECONDITION");
  });

  test("limits hold when calls arrive together", async () => {
    const { tenantId, slug } = await platform.base.register("small");
    const owner = await platform.person({ tenantId, slug }, "OWNER");
    const metrics = createClient(MetricsService, session.transport);
    await auth.updateTenant(
      { tenantId, limits: { users: 5n, stores: 2n, apiKeys: 4n }, updateMask: { paths: ["limits"] } },
      operator,
    );
    const outcomes = async (calls: Promise<unknown>[]) => {
      const settled = await Promise.allSettled(calls);
      const refused = settled.filter(({ status }) => status === "rejected");
      for (const { reason } of refused as PromiseRejectedResult[]) {
        const { metadata } = await assertFails(
          Promise.reject(reason),
          Code.ResourceExhausted,
          "TENANT_LIMIT",
        );
        assert.ok(metadata.limit);
      }
      return settled.length - refused.length;
    };
    const many = Array.from({ length: 8 }, (_, index) => index);
    const invited = await outcomes(
      many.map((n) => auth.inviteUser({ email: `p${n}@small.example`, role: Role.VIEWER }, owner)),
    );
    const stores = await outcomes(many.map((n) => metrics.createStore({ name: `store ${n}` }, owner)));
    const keys = await outcomes(many.map((n) => auth.createApiKey({ name: `key ${n}` }, owner)));
    // Of the tenant's own there are two owners and one key.
    assert.deepEqual([invited, stores, keys], [3, 2, 3]);
  });

  test("counts what there is", async () => {
    const tenant = await platform.base.register("counted");
    const { tenantId, slug, apiKey } = tenant;
    const ingestion = createClient(IngestionService, session.transport);
    const metrics = createClient(MetricsService, session.transport);
    await platform.person({ tenantId, slug }, "VIEWER");
    const { store } = await metrics.createStore({ name: "A" }, withKey(apiKey));
    const events = Array.from({ length: 7 }, () => ({ eventType: "x" }));
    await ingestion.ingestEvents({ events }, withKey(apiKey));
    await metrics.writeSamples(
      { storeId: store?.id ?? "", samples: [{ name: "t", value: 1 }] },
      withKey(apiKey),
    );
    const { stats } = await auth.getTenantStats({ tenantId }, withKey(apiKey));
    assert.deepEqual(
      [stats?.stores, stats?.series, stats?.users, stats?.apiKeys, stats?.eventsTotal, stats?.eventsToday],
      [1n, 1n, 2n, 1n, 7n, 7n],
    );
    assert.equal(stats?.samplesToday, 1n);
    assert.ok((stats?.storedBytes ?? 0n) > 200n);
    assert.ok(stats?.lastReceivedAt && stats.countedAt);
    const { stats: theirs } = await auth.getTenantStats({ tenantId: acme.tenantId }, operator);
    assert.deepEqual(
      [theirs?.tenantId, theirs?.eventsTotal, theirs?.lastReceivedAt],
      [acme.tenantId, 0n, undefined],
    );
    await ingestion.ingestEvent({ event: { eventType: "x" } }, withKey(apiKey));
    const again = await auth.getTenantStats({ tenantId }, operator);
    assert.deepEqual(again.stats?.countedAt, stats.countedAt);
  });

  test("a platform admin reaches into a tenant by its id; others do not", async () => {
    const { tenantId } = await platform.base.register("reached");
    const metrics = createClient(MetricsService, session.transport);
    const calls: [string, (credentials: ReturnType<typeof bearer>, id: string) => Promise<unknown>][] = [
      ["CreateStore", (by, id) => metrics.createStore({ name: randomUUID(), tenantId: id }, by)],
      [
        "InviteUser",
        (by, id) =>
          auth.inviteUser({ email: `${randomUUID()}@x.example`, role: Role.ADMIN, tenantId: id }, by),
      ],
      ["ListUsers", (by, id) => auth.listUsers({ tenantId: id }, by)],
      ["CreateApiKey", (by, id) => auth.createApiKey({ name: "k", tenantId: id }, by)],
    ];
    for (const [name, call] of calls) {
      await assertFails(call(bearer(acme.token), tenantId), Code.NotFound, "NOT_FOUND");
      await assertFails(call(operator, randomUUID()), Code.NotFound, "NOT_FOUND");
      assert.ok(await call(operator, tenantId), name);
    }
    const { rows } = await platform.base.database.superuser.query(
      `select (select count(*)::int from stores where tenant_id = $1) as stores,
         (select count(*)::int from users where tenant_id = $1) as users`,
      [tenantId],
    );
    assert.deepEqual(rows, [{ stores: 1, users: 2 }]);
    const { users } = await auth.listUsers({ tenantId }, operator);
    assert.ok(users.every((user) => user.tenantId === tenantId));
  });
});

describe("platform admins", () => {
  test("nobody becomes one by making the tenant that the operator has named", async () => {
    await using platform = await startPlatform({
      PULSEWIRE_PLATFORM_ADMINS: "owner@first.example/first,chief@later.example/later",
    });
    const { auth } = platform;
    const early = auth.registerTenant({ name: "L", slug: "later", contactEmail: "chief@later.example" });
    await assertFails(early, Code.AlreadyExists, "ALREADY_EXISTS");
    const { owner, temporaryPassword } = await auth.createTenant(
      { name: "L", slug: "later", contactEmail: "chief@later.example" },
      platform.operator,
    );
    assert.equal(owner?.platformAdmin, true);

    // With the temporary password they administer nothing, least of all the platform.
    const chief = { email: "chief@later.example", tenantSlug: "later" };
    const { accessToken } = await auth.login({ ...chief, password: temporaryPassword });
    await assertFails(
      auth.listTenants({}, bearer(accessToken)),
      Code.PermissionDenied,
      "PASSWORD_CHANGE_REQUIRED",
    );
    const changed = await auth.changePassword(
      { currentPassword: temporaryPassword, newPassword: "a password of the chief" },
      bearer(accessToken),
    );
    const { tenants } = await auth.listTenants({}, bearer(changed.accessToken));
    assert.ok(tenants.length >= 2);
  });

  test("nobody in their tenant gets hold of them", async () => {
    await using platform = await startPlatform({
      PULSEWIRE_PLATFORM_ADMINS: "owner@first.example/first,next@first.example/first",
    });
    const { auth, operator, base } = platform;
    const { tenantId } = base.tenant;
    const owner = await platform.person(base.tenant, "OWNER");
    const { users } = await auth.listUsers({ emailContains: "owner@first" }, owner);
    const [chief] = users;
    assert.equal(chief?.platformAdmin, true);
    const userId = chief?.id ?? "";
    for (const call of [
      () => auth.resetPassword({ userId }, owner),
      () => auth.removeUser({ userId }, owner),
      () => auth.updateUser({ userId, state: UserState.DISABLED, updateMask: { paths: ["state"] } }, owner),
      () => auth.inviteUser({ email: "Next@First.example", role: Role.VIEWER }, owner),
    ]) {
      const { metadata } = await assertFails(call(), Code.PermissionDenied, "INSUFFICIENT_ROLE");
      assert.equal(metadata.role, "PLATFORM_ADMIN");
    }
    const invited = await auth.inviteUser(
      { email: "next@first.example", role: Role.VIEWER, tenantId },
      operator,
    );
    assert.equal(invited.user?.platformAdmin, true);
  });
});

describe("settings", () => {
  test("defaults for tenants without limits of their own", async () => {
    await using platform = await startPlatform({ PULSEWIRE_TENANT_LIMITS: "users=1, api_keys=1" });
    const { auth, base } = platform;
    const { tenantId } = base.tenant;
    const owner = bearer(base.tenant.token);
    await assertFails(
      auth.inviteUser({ email: "a@first.example", role: Role.VIEWER }, owner),
      Code.ResourceExhausted,
      "TENANT_LIMIT",
    );
    await assertFails(auth.createApiKey({ name: "two" }, owner), Code.ResourceExhausted, "TENANT_LIMIT");
    await auth.updateTenant(
      { tenantId, limits: { users: 2n }, updateMask: { paths: ["limits.users"] } },
      platform.operator,
    );
    await auth.inviteUser({ email: "a@first.example", role: Role.VIEWER }, owner);
  });

  test("that cannot be meant are refused by name", () => {
    for (const text of [
      "me",
      "me@x.example",
      "me@x.example/",
      "me@x.example/dev-1",
      "a@b.example/x y",
      "/first",
    ]) {
      assert.throws(() => envToConfig({ PULSEWIRE_PLATFORM_ADMINS: text }), ConfigError, text);
    }
    for (const text of ["users", "users=-1", "people=3", "users=1;stores=2", "users=1e3"]) {
      assert.throws(() => envToConfig({ PULSEWIRE_TENANT_LIMITS: text }), ConfigError, text);
    }
    const { tenants } = envToConfig({
      PULSEWIRE_PLATFORM_ADMINS: " A@X.example/first , b@x.example/second ",
      PULSEWIRE_TENANT_LIMITS: "requests_per_minute=60",
    });
    assert.deepEqual([...tenants.platformAdmins], ["a@x.example/first", "b@x.example/second"]);
    assert.deepEqual([tenants.limits.requestsPerMinute, tenants.limits.users], [60n, 0n]);
  });
});
