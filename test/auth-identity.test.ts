import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { exportJWK, exportSPKI, generateKeyPair, type JWTPayload, SignJWT, UnsecuredJWT } from "jose";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import type { CreateIdentityProviderRequestSchema } from "../server/src/gen/pulsewire/auth/v1/identity_provider_pb.js";
import { Role, UserState } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { type IssuerKey, newIssuerKey, type OidcIssuer, startOidcIssuer } from "./helpers/oidc.ts";
import { grpcSession, serve, startTestServer, type TestServer, type TestTenant } from "./helpers/server.ts";

const settings = {
  PULSEWIRE_ALLOW_PRIVATE_ISSUERS: "on",
  PULSEWIRE_JWKS_COOLDOWN: "1",
  PULSEWIRE_JWKS_CACHE_TTL: "1",
};
const audience = "https://pulsewire.example";

describe("identity providers", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  let firstKey: IssuerKey;
  let oidc: OidcIssuer;

  before(async () => {
    firstKey = await newIssuerKey("first");
    [server, oidc] = await Promise.all([startTestServer(settings), startOidcIssuer([firstKey])]);
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await oidc.stop();
    await server.stop();
  });

  type CreateRequest = MessageInitShape<typeof CreateIdentityProviderRequestSchema>;
  const as = (tenant: TestTenant) => ({ headers: { authorization: `Bearer ${tenant.token}` } });
  const outside = (token: string, tenantSlug: string) => ({
    headers: { authorization: `Bearer ${token}`, "x-pulsewire-tenant": tenantSlug },
  });
  /** A tenant of its own that trusts the provider. */
  async function trusting(
    slug: string,
    request: CreateRequest = {},
  ): Promise<TestTenant & { providerId: string }> {
    const tenant = await server.register(slug);
    const { identityProvider } = await auth.createIdentityProvider(
      {
        name: "Staff",
        issuer: oidc.issuer,
        audiences: [audience],
        allowedEmailDomains: ["staff.example"],
        createUsers: true,
        ...request,
      },
      as(tenant),
    );
    return { ...tenant, providerId: identityProvider?.id ?? "" };
  }
  const person = (name: string, more: JWTPayload = {}): JWTPayload => ({
    sub: `subject of ${name}`,
    email: `${name}@staff.example`,
    email_verified: true,
    name: `The ${name}`,
    ...more,
  });
  const refused = (token: string, slug: string) =>
    assertFails(auth.getMe({}, outside(token, slug)), Code.Unauthenticated, "INVALID_TOKEN");

  test("is found by its issuer, listed, and deleted", async () => {
    const tenant = await trusting("lists");
    const second = await auth.createIdentityProvider(
      {
        name: "Another",
        issuer: oidc.issuer,
        audiences: ["other"],
        keys: { case: "jwksUri", value: `${oidc.issuer}/jwks` },
      },
      as(tenant),
    );
    assert.equal(second.identityProvider?.defaultRole, Role.MEMBER);
    assert.equal(second.identityProvider?.highestRole, Role.OWNER);
    const page = await auth.listIdentityProviders({ pageSize: 1 }, as(tenant));
    assert.deepEqual(
      page.identityProviders.map(({ name }) => name),
      ["Another"],
    );
    const rest = await auth.listIdentityProviders({ pageSize: 1, pageToken: page.nextPageToken }, as(tenant));
    const [staff] = rest.identityProviders;
    assert.equal(staff?.name, "Staff");
    assert.deepEqual(staff?.keys, { case: "jwksUri", value: `${oidc.issuer}/jwks` });
    assert.deepEqual(staff?.algorithms, ["RS256", "PS256", "ES256", "EdDSA"]);
    assert.ok(staff?.keysFetchedAt);
    assert.equal(rest.nextPageToken, "");
    await auth.deleteIdentityProvider({ identityProviderId: tenant.providerId }, as(tenant));
    const gone = auth.deleteIdentityProvider({ identityProviderId: tenant.providerId }, as(tenant));
    await assertFails(gone, Code.NotFound, "NOT_FOUND");
    const foreign = auth.deleteIdentityProvider(
      { identityProviderId: second.identityProvider?.id ?? "" },
      as(server.tenant),
    );
    await assertFails(foreign, Code.NotFound, "NOT_FOUND");
  });

  test("vouches for people of its domains, who become users at their first call", async () => {
    const tenant = await trusting("vouches");
    const token = await oidc.token(person("anna"));
    const me = await auth.getMe({}, outside(token, "vouches"));
    assert.ok(me.principal.case === "user");
    const { value: user } = me.principal;
    assert.deepEqual(
      {
        email: user.email,
        role: user.role,
        name: user.displayName,
        verified: user.emailVerified,
        from: user.identityProviderId,
      },
      {
        email: "anna@staff.example",
        role: Role.MEMBER,
        name: "The anna",
        verified: true,
        from: tenant.providerId,
      },
    );
    assert.equal(user.externalId, "subject of anna");
    assert.equal(me.tenant?.id, tenant.tenantId);
    assert.equal(me.sessionId, "");
    assert.ok(me.expiresAt);
    const renamed = await oidc.token(person("anna", { email: "anna.new@staff.example" }));
    const again = await auth.getMe({}, outside(renamed, "vouches"));
    assert.ok(again.principal.case === "user");
    assert.equal(again.principal.value.id, user.id, "the subject says who it is, not the address");
    await createClient(IngestionService, session.transport).ingestEvent(
      { event: { eventType: "outside" } },
      outside(token, "vouches"),
    );
    await assertFails(
      auth.logout({}, outside(token, "vouches")),
      Code.FailedPrecondition,
      "FAILED_PRECONDITION",
    );
    const { rows } = await server.database.superuser.query("select email_verified from users where id = $1", [
      user.id,
    ]);
    assert.equal(
      rows[0].email_verified,
      false,
      "what a tenant's provider says proves nothing to other tenants",
    );
  });

  test("works over Connect JSON", async () => {
    await trusting("json");
    const response = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/GetMe`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${await oidc.token(person("json"))}`,
        "x-pulsewire-tenant": "json",
      },
      body: "{}",
    });
    assert.equal((await response.json()).user.email, "json@staff.example");
  });

  test("makes one user of calls that arrive together, and asks the issuer once", async () => {
    const tenant = await trusting("crowd");
    const tokens = await Promise.all(
      Array.from({ length: 8 }, (_, i) => oidc.forge(firstKey, person("crowd", { jti: `${i}` }))),
    );
    oidc.requests.length = 0;
    const answers = await Promise.all(tokens.map((token) => auth.getMe({}, outside(token, "crowd"))));
    const ids = new Set(
      answers.map(({ principal }) => (principal.case === "user" ? principal.value.id : "")),
    );
    assert.equal(ids.size, 1);
    assert.ok(oidc.requests.filter((path) => path === "/jwks").length <= 1);
    const { rows } = await server.database.superuser.query(
      "select from users where tenant_id = $1 and email = 'crowd@staff.example'",
      [tenant.tenantId],
    );
    assert.equal(rows.length, 1);
  });

  test("is believed only where the call names the tenant that trusts it", async () => {
    await trusting("named");
    await server.register("bystander");
    const token = await oidc.token(person("bert"));
    const unnamed = auth.getMe({}, { headers: { authorization: `Bearer ${token}` } });
    assert.match(
      (await assertFails(unnamed, Code.Unauthenticated, "INVALID_TOKEN")).message,
      /x-pulsewire-tenant/,
    );
    const other = await refused(token, "bystander");
    const none = await refused(token, "no-such-tenant");
    assert.equal(other.message, none.message, "whether a tenant exists is not told");
    await auth.getMe({}, outside(token, "named"));
    await refused(token, "bystander");
  });

  test("the KRN of a client names its tenant where the header does not (Pebbles)", async () => {
    await trusting("krn-named");
    const token = await oidc.token(person("pebble"));
    const unnamed = { headers: { authorization: `Bearer ${token}` } };
    const progress = createClient(ProgressService, session.transport);
    const file = { clientKrn: "krn:krn-named:client:123", filename: "sales.csv" };
    const { progress: made } = await progress.reportProgress({ ...file, counts: { done: 100n } }, unnamed);
    assert.equal(made?.email, "pebble@staff.example");
    assert.equal((await progress.getProgress(file, unnamed)).progress?.counts?.done, 100n);
    await server.register("krn-bystander");
    for (const slug of ["krn-bystander", "krn-nobody"]) {
      const foreign = { ...file, clientKrn: `krn:${slug}:client:123` };
      await assertFails(progress.reportProgress(foreign, unnamed), Code.Unauthenticated, "INVALID_TOKEN");
    }
    // Who names the tenant twice is held to the header.
    await assertFails(
      progress.reportProgress(file, outside(token, "krn-bystander")),
      Code.Unauthenticated,
      "INVALID_TOKEN",
    );
  });

  test("tokens that are not what the tenant trusts are refused", async () => {
    await trusting("strict");
    const strangerKey = await newIssuerKey("first");
    const now = Math.floor(Date.now() / 1_000);
    const pem = new TextEncoder().encode(await exportSPKI(await publicOf(firstKey)));
    const tokens: Record<string, string> = {
      "wrong audience": await oidc.token(person("x"), "https://another.example"),
      "no audience": await oidc.forge(firstKey, { ...person("x"), aud: undefined }),
      "wrong issuer": await oidc.forge(firstKey, { ...person("x"), iss: "http://127.0.0.1:1" }),
      "issuer with a slash": await oidc.forge(firstKey, { ...person("x"), iss: `${oidc.issuer}/` }),
      "another key under the same id": await oidc.forge(strangerKey, person("x")),
      "an unknown key": await oidc.forge({ ...strangerKey, kid: "unknown" }, person("x")),
      "its own key in the header": await oidc.forge(strangerKey, person("x"), {
        jwk: await exportJWK(await publicOf(strangerKey)),
      }),
      "its own JWK Set in the header": await oidc.forge(strangerKey, person("x"), {
        jku: "https://evil.example/jwks",
      }),
      expired: await oidc.forge(firstKey, { ...person("x"), exp: now - 60 }),
      "not valid yet": await oidc.forge(firstKey, { ...person("x"), nbf: now + 600 }),
      "unverified address": await oidc.token(person("x", { email_verified: false })),
      "address verified in words": await oidc.token(person("x", { email_verified: "true" })),
      "no address": await oidc.token({ sub: "x" }),
      "foreign domain": await oidc.token(person("x", { email: "x@elsewhere.example" })),
      subdomain: await oidc.token(person("x", { email: "x@sub.staff.example" })),
      "two at signs": await oidc.token(person("x", { email: "x@evil.example@staff.example" })),
      "no subject": await oidc.forge(firstKey, { ...person("x"), sub: undefined }),
      "logout token": await oidc.forge(firstKey, person("x"), { typ: "logout+jwt" }),
      "alg none": new UnsecuredJWT({ ...person("x"), iss: oidc.issuer, aud: audience })
        .setExpirationTime("10m")
        .encode(),
      "HS256 with the public key": await new SignJWT({ ...person("x"), iss: oidc.issuer, aud: audience })
        .setProtectedHeader({ alg: "HS256", kid: "first" })
        .setExpirationTime("10m")
        .sign(pem),
      "PS256 with a key for RS256": await new SignJWT({ ...person("x"), iss: oidc.issuer, aud: audience })
        .setProtectedHeader({ alg: "PS256", kid: "first" })
        .setExpirationTime("10m")
        .sign((await generateKeyPair("PS256")).privateKey),
    };
    for (const [what, token] of Object.entries(tokens)) {
      await refused(token, "strict").catch((error: unknown) => assert.fail(`${what}: ${error}`));
    }
    const withoutExpiry = await new SignJWT({ ...person("x"), iss: oidc.issuer, aud: audience })
      .setProtectedHeader({ alg: "RS256", kid: "first" })
      .sign(firstKey.privateKey);
    await refused(withoutExpiry, "strict");
    await auth.getMe({}, outside(await oidc.forge(firstKey, person("x")), "strict"));
  });

  test("without create_users only users of the tenant come in, each tied to one identity", async () => {
    const tenant = await trusting("closed", { createUsers: false, allowedEmailDomains: [] });
    await refused(await oidc.token(person("stranger")), "closed");
    await auth.inviteUser({ email: "dora@staff.example", role: Role.VIEWER }, as(tenant));
    const me = await auth.getMe({}, outside(await oidc.token(person("dora")), "closed"));
    assert.ok(me.principal.case === "user");
    assert.equal(me.principal.value.role, Role.VIEWER);
    await refused(await oidc.token(person("dora", { sub: "who got the address after dora" })), "closed");
    await auth.getMe({}, outside(await oidc.token({ sub: "subject of dora" }), "closed"));
  });

  test("roles come from the mapping, below the maker's own, and go with it", async () => {
    const tenant = await trusting("roles", {
      claimMapping: { role: "realm_access.roles", roles: { boss: Role.ADMIN, reader: Role.VIEWER } },
    });
    const roleWith = async (roles: unknown) => {
      const me = await auth.getMe(
        {},
        outside(await oidc.token(person("emil", { realm_access: { roles } })), "roles"),
      );
      assert.ok(me.principal.case === "user");
      return me.principal.value.role;
    };
    assert.equal(await roleWith(["reader", "boss", "other"]), Role.ADMIN);
    assert.equal(await roleWith("reader"), Role.VIEWER);
    assert.equal(await roleWith(["boss"]), Role.ADMIN);
    assert.equal(
      await roleWith(["constructor", "__proto__"]),
      Role.MEMBER,
      "what the mapping gave it takes away",
    );
    const owner = await oidc.forge(firstKey, person("x", { email: tenant.email }));
    await refused(owner, "roles");
  });

  test("the provider of an admin speaks for no owner, the owner's may, and nobody may map more than they are", async () => {
    const tenant = await server.register("ranks");
    const invited = await auth.inviteUser({ email: "admin@staff.example", role: Role.ADMIN }, as(tenant));
    const login = await auth.login({
      email: "admin@staff.example",
      password: invited.temporaryPassword,
      tenantSlug: "ranks",
    });
    const changed = await auth.changePassword(
      { currentPassword: invited.temporaryPassword, newPassword: "an admin's own password" },
      { headers: { authorization: `Bearer ${login.accessToken}` } },
    );
    const asAdmin = { headers: { authorization: `Bearer ${changed.accessToken}` } };
    const base = { issuer: oidc.issuer, audiences: [audience] };
    const made = await auth.createIdentityProvider({ ...base, name: "admin's" }, asAdmin);
    assert.equal(made.identityProvider?.highestRole, Role.ADMIN);
    const asOwner = await oidc.token({ sub: "the owner", email: tenant.email, email_verified: true });
    await refused(asOwner, "ranks");
    await auth.deleteIdentityProvider({ identityProviderId: made.identityProvider?.id ?? "" }, as(tenant));
    await auth.createIdentityProvider({ ...base, name: "owner's" }, as(tenant));
    const me = await auth.getMe({}, outside(asOwner, "ranks"));
    assert.ok(me.principal.case === "user");
    assert.equal(me.principal.value.role, Role.OWNER);

    const { secret } = await auth.createApiKey(
      { name: "manager", scopes: [Scope.TENANT_ADMIN, Scope.TENANT_READ] },
      as(tenant),
    );
    const byKey = auth.createIdentityProvider(
      { ...base, name: "key's", audiences: ["x"], claimMapping: { role: "r", roles: { a: Role.ADMIN } } },
      { headers: { "x-api-key": secret } },
    );
    const { metadata } = await assertFails(byKey, Code.PermissionDenied, "INSUFFICIENT_ROLE");
    assert.deepEqual(metadata, { role: "ADMIN" });
  });

  test("a user who is disabled is out within a second, on every server, and stays out", async () => {
    const tenant = await trusting("disabled");
    await using other = await serve(server.database, settings);
    using elsewhere = grpcSession(other.url);
    const authElsewhere = createClient(AuthService, elsewhere.transport);
    const token = await oidc.token(person("fritz"));
    const me = await auth.getMe({}, outside(token, "disabled"));
    await authElsewhere.getMe({}, outside(token, "disabled"));
    assert.ok(me.principal.case === "user");
    await auth.updateUser(
      { userId: me.principal.value.id, state: UserState.DISABLED, updateMask: { paths: ["state"] } },
      as(tenant),
    );
    const before = Date.now();
    await until(
      async () =>
        (await authElsewhere.getMe({}, outside(token, "disabled")).catch(() => undefined)) === undefined,
    );
    assert.ok(Date.now() - before < 1_000);
    await refused(token, "disabled");
    await refused(await oidc.token(person("fritz", { jti: "another" })), "disabled");
  });

  test("deleted: its tokens stop working within a second, on every server", async () => {
    const tenant = await trusting("deleted");
    await using other = await serve(server.database, settings);
    using elsewhere = grpcSession(other.url);
    const authElsewhere = createClient(AuthService, elsewhere.transport);
    const token = await oidc.token(person("gerd"));
    await auth.getMe({}, outside(token, "deleted"));
    await authElsewhere.getMe({}, outside(token, "deleted"));
    await auth.deleteIdentityProvider({ identityProviderId: tenant.providerId }, as(tenant));
    const before = Date.now();
    await until(
      async () =>
        (await authElsewhere.getMe({}, outside(token, "deleted")).catch(() => undefined)) === undefined,
    );
    assert.ok(Date.now() - before < 1_000);
    await refused(token, "deleted");
  });

  test("goes on with the keys that are known while it is down, and takes new keys when they come", async () => {
    const key = await newIssuerKey("one");
    await using issuer = await startOidcIssuer([key]);
    const tenant = await server.register("rotation");
    const { identityProvider } = await auth.createIdentityProvider(
      {
        name: "Rotating",
        issuer: issuer.issuer,
        audiences: [audience],
        allowedEmailDomains: ["staff.example"],
        createUsers: true,
      },
      as(tenant),
    );
    await auth.getMe({}, outside(await issuer.token(person("hans")), "rotation"));

    await issuer.stop();
    await sleep(1_100);
    await auth.getMe({}, outside(await issuer.forge(key, person("hans", { jti: "while down" })), "rotation"));
    const error = async () => {
      const { identityProviders } = await auth.listIdentityProviders({}, as(tenant));
      return identityProviders.find(({ id }) => id === identityProvider?.id)?.keysError ?? "";
    };
    await until(async () => /could not be reached/.test(await error()));

    const next = await newIssuerKey("two");
    await issuer.start([next]);
    await sleep(1_100);
    await auth.getMe({}, outside(await issuer.token(person("hans", { jti: "new key" })), "rotation"));
    await until(async () => (await error()) === "");
    await refused(await issuer.forge(key, person("hans", { jti: "old key" })), "rotation");
  });

  test("unknown key ids make the server ask the issuer no more than once in a while", async () => {
    await trusting("flood");
    await auth.getMe({}, outside(await oidc.forge(firstKey, person("ida")), "flood"));
    const stranger = await newIssuerKey("x");
    oidc.requests.length = 0;
    for (let i = 0; i < 20; i++)
      await refused(await oidc.forge({ ...stranger, kid: `unknown ${i}` }, person("ida")), "flood");
    assert.ok(oidc.requests.filter((path) => path === "/jwks").length <= 2, oidc.requests.join());
  });

  test("keys may be given as they are, and another issuer's keys at the same name are of no use", async () => {
    const tenant = await server.register("given");
    const jwksJson = JSON.stringify({ keys: [publicJwk(firstKey)] });
    const request = {
      name: "Given",
      issuer: "https://given.example",
      audiences: ["me"],
      keys: { case: "jwksJson" as const, value: jwksJson },
    };
    await auth.createIdentityProvider(
      { ...request, allowedEmailDomains: ["staff.example"], createUsers: true },
      as(tenant),
    );
    const claims = { ...person("jan"), iss: "https://given.example", aud: ["me", "them"] };
    await auth.getMe({}, outside(await oidc.forge(firstKey, claims), "given"));
    await refused(await oidc.forge(await newIssuerKey("first"), claims), "given");
    for (const [keys, why] of [
      ["no json", /no JSON/],
      ["[]", /no JWK Set/],
      ['{"keys":[]}', /no public key/],
      [JSON.stringify({ keys: [firstKey.jwk] }), /private or shared/],
      ['{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', /private or shared/],
      [JSON.stringify({ keys: [{ ...publicJwk(firstKey), alg: "RS512" }] }), /no public key for RS256/],
    ] as const) {
      const call = auth.createIdentityProvider(
        {
          ...request,
          name: "Bad",
          audiences: ["other"],
          keys: { case: "jwksJson", value: keys },
          algorithms: ["RS256"],
        },
        as(tenant),
      );
      assert.match((await assertFails(call, Code.InvalidArgument, "INVALID_FIELD")).message, why);
    }
  });

  test("the same name, or the same issuer and audience, is taken once, also by calls that arrive together", async () => {
    const tenant = await trusting("twice");
    const base = { issuer: oidc.issuer, audiences: ["more"] };
    const sameName = auth.createIdentityProvider({ ...base, name: "Staff" }, as(tenant));
    assert.deepEqual((await assertFails(sameName, Code.AlreadyExists, "ALREADY_EXISTS")).fields, ["name"]);
    const sameAudience = auth.createIdentityProvider(
      { ...base, name: "B", audiences: ["new", audience] },
      as(tenant),
    );
    assert.deepEqual((await assertFails(sameAudience, Code.AlreadyExists, "ALREADY_EXISTS")).fields, [
      "audiences",
    ]);
    const attempts = await Promise.allSettled(
      Array.from({ length: 5 }, (_, i) =>
        auth.createIdentityProvider({ ...base, name: `N${i}` }, as(tenant)),
      ),
    );
    assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
  });

  test("a wrong issuer is refused when it is made, with the reason", async () => {
    let body = "";
    let status = 200;
    const wrong = createServer((_request, response) =>
      response.writeHead(status, { location: "http://127.0.0.1:1/" }).end(body),
    );
    await new Promise<void>((done) => wrong.listen(0, "127.0.0.1", done));
    try {
      const issuer = `http://127.0.0.1:${(wrong.address() as AddressInfo).port}`;
      const create = (more: CreateRequest = {}) =>
        auth.createIdentityProvider({ name: "Wrong", issuer, audiences: ["a"], ...more }, as(server.tenant));
      for (const [text, why] of [
        ["<html>", /no JSON/],
        ['{"issuer":"https://accounts.google.com","jwks_uri":"https://x.example"}', /another issuer/],
        [JSON.stringify({ issuer }), /no jwks_uri/],
        [JSON.stringify({ issuer, jwks_uri: "file:///etc/passwd" }), /no jwks_uri/],
        [JSON.stringify({ issuer, jwks_uri: issuer }), /no JWK Set/],
      ] as const) {
        body = text;
        assert.match((await assertFails(create(), Code.InvalidArgument, "INVALID_FIELD")).message, why);
      }
      for (status of [302, 500]) {
        const unread = await assertFails(create(), Code.InvalidArgument, "INVALID_FIELD");
        assert.match(unread.message, /could not be fetched/);
      }
      status = 200;
      body = "x".repeat(300_000);
      const large = await assertFails(create(), Code.InvalidArgument, "INVALID_FIELD");
      assert.match(large.message, /more than 262144 bytes/);
      for (const strange of ["http://user:password@127.0.0.1", `${issuer}?x=1`]) {
        await assertFails(create({ issuer: strange }), Code.InvalidArgument, "INVALID_FIELD");
      }
    } finally {
      wrong.close();
    }
  });

  async function publicOf({ jwk }: IssuerKey) {
    const { importJWK } = await import("jose");
    return (await importJWK(publicJwk({ jwk } as IssuerKey), "RS256")) as Parameters<typeof exportSPKI>[0];
  }
});

function publicJwk({ jwk: { kty, n, e, kid, alg, use } }: IssuerKey) {
  return Object.fromEntries(
    Object.entries({ kty, n, e, kid, alg, use }).filter(([, value]) => value !== undefined),
  );
}

async function until(done: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; !(await done()); await sleep(10)) {
    assert.ok(Date.now() < end, "it did not come about");
  }
}

test("http and private addresses are refused unless the operator allows them", async () => {
  await using server = await startTestServer();
  using session = grpcSession(server.url, { authorization: `Bearer ${server.tenant.token}` });
  const auth = createClient(AuthService, session.transport);
  for (const request of [
    { issuer: "http://accounts.example" },
    { issuer: "https://127.0.0.1" },
    { issuer: "https://localhost" },
    { issuer: "https://[::1]" },
    { issuer: "https://[::ffff:a00:1]" },
    { issuer: "https://169.254.169.254" },
    { issuer: "https://a.example", keys: { case: "jwksUri" as const, value: "http://a.example/jwks" } },
    { issuer: "https://a.example", keys: { case: "jwksUri" as const, value: "https://10.1.2.3/jwks" } },
  ]) {
    const call = auth.createIdentityProvider({ name: "Private", audiences: ["a"], ...request });
    const { metadata } = await assertFails(call, Code.PermissionDenied, "DISABLED");
    assert.deepEqual(metadata, { setting: "PULSEWIRE_ALLOW_PRIVATE_ISSUERS" });
  }
});
