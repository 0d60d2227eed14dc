import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Role } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { createTestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

describe("auth", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  let ingestion: Client<typeof IngestionService>;
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const withKey = (key: string) => ({ headers: { "x-api-key": key } });

  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
    ingestion = createClient(IngestionService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("a registered tenant has an owner with a temporary password", async () => {
    const answer = await auth.registerTenant({
      name: "Acme",
      slug: "acme",
      contactEmail: "Owner@Acme.example",
    });
    assert.equal(answer.tenant?.slug, "acme");
    assert.equal(answer.owner?.email, "owner@acme.example");
    assert.equal(answer.owner?.role, Role.OWNER);
    assert.equal(answer.owner?.mustChangePassword, true);
    const login = await auth.login({
      email: "OWNER@acme.example",
      password: answer.temporaryPassword,
      tenantSlug: "acme",
    });
    assert.equal(login.mustChangePassword, true);
    assert.equal(login.tokenType, "Bearer");
    const me = await auth.getMe({}, bearer(login.accessToken));
    assert.equal(me.principal.case, "user");
    assert.equal(me.tenant?.id, answer.tenant?.id);
  });

  test("a temporary password sends data but administers nothing, and its own replaces it", async () => {
    const { temporaryPassword } = await auth.registerTenant({
      name: "Temporary",
      slug: "temporary",
      contactEmail: "owner@temporary.example",
    });
    const login = { email: "owner@temporary.example", tenantSlug: "temporary" };
    const { accessToken } = await auth.login({ ...login, password: temporaryPassword });
    await ingestion.ingestEvent({ event: { eventType: "api_call" } }, bearer(accessToken));
    const refused = auth.createApiKey({ name: "early" }, bearer(accessToken));
    await assertFails(refused, Code.PermissionDenied, "PASSWORD_CHANGE_REQUIRED");

    const change = { currentPassword: temporaryPassword, newPassword: "correct horse battery" };
    await assertFails(
      auth.changePassword({ ...change, currentPassword: "wrong" }, bearer(accessToken)),
      Code.Unauthenticated,
      "INVALID_LOGIN",
    );
    const changed = await auth.changePassword(change, bearer(accessToken));
    await auth.createApiKey({ name: "now" }, bearer(changed.accessToken));
    await assertFails(
      auth.login({ ...login, password: temporaryPassword }),
      Code.Unauthenticated,
      "INVALID_LOGIN",
    );
    const again = await auth.login({ ...login, password: "correct horse battery" });
    assert.equal(again.mustChangePassword, false);
  });

  test("an expired temporary password is of no use", async () => {
    const { temporaryPassword, owner } = await auth.registerTenant({
      name: "Late",
      slug: "late",
      contactEmail: "owner@late.example",
    });
    await server.database.superuser.query(
      "update users set temporary_password_expires_at = now() - interval '1 second' where id = $1",
      [owner?.id],
    );
    const login = auth.login({
      email: "owner@late.example",
      password: temporaryPassword,
      tenantSlug: "late",
    });
    await assertFails(login, Code.Unauthenticated, "INVALID_LOGIN");
  });

  test("a slug is taken once, also by calls that arrive together", async () => {
    const attempts = await Promise.allSettled(
      Array.from({ length: 4 }, () =>
        auth.registerTenant({ name: "Race", slug: "race", contactEmail: "owner@race.example" }),
      ),
    );
    assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
    const { rows } = await server.database.superuser.query("select id from tenants where slug = 'race'");
    assert.equal(rows.length, 1);
    const refused = auth.registerTenant({ name: "Race", slug: "race", contactEmail: "other@race.example" });
    const error = await assertFails(refused, Code.AlreadyExists, "ALREADY_EXISTS");
    assert.deepEqual(error.fields, ["slug"]);
  });

  test("wrong e-mail, password or slug are answered alike", async () => {
    const { email, password, slug } = server.tenant;
    const attempts = [
      { email, password: "wrong", tenantSlug: slug },
      { email: "nobody@first.example", password, tenantSlug: slug },
      { email, password, tenantSlug: "no-such-tenant" },
    ];
    const messages = new Set<string>();
    for (const attempt of attempts) {
      messages.add((await assertFails(auth.login(attempt), Code.Unauthenticated, "INVALID_LOGIN")).message);
    }
    assert.equal(messages.size, 1);
  });

  test("secrets are stored as hashes only", async () => {
    const { rows } = await server.database.superuser.query(
      "select u.password_hash, encode(k.key_hash, 'hex') as key_hash, k.key_prefix from users u join api_keys k using (tenant_id)",
    );
    assert.ok(rows.length > 0);
    for (const row of rows) {
      assert.match(row.password_hash, /^\$argon2id\$/);
      assert.match(row.key_hash, /^[0-9a-f]{64}$/);
      assert.equal(row.key_prefix.length, 12);
    }
    const everything = await server.database.superuser.query(
      "select row(u.*)::text as r from users u union all select row(k.*)::text from api_keys k",
    );
    for (const { r } of everything.rows) {
      assert.ok(!r.includes(server.tenant.password) && !r.includes(server.tenant.apiKey));
    }
  });

  test("a key does what its scopes say, and never more than its maker may", async () => {
    const made = await auth.createApiKey(
      { name: "writer", scopes: [Scope.EVENTS_WRITE] },
      bearer(server.tenant.token),
    );
    assert.match(made.secret, /^evp_[\w-]{43}$/);
    assert.equal(made.apiKey?.prefix, made.secret.slice(0, 12));
    await ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(made.secret));
    await assertFails(ingestion.listEvents({}, withKey(made.secret)), Code.PermissionDenied, "MISSING_SCOPE");

    const { secret: maker } = await auth.createApiKey(
      { name: "maker", scopes: [Scope.TENANT_ADMIN, Scope.EVENTS_READ] },
      bearer(server.tenant.token),
    );
    const more = auth.createApiKey({ name: "more", scopes: [Scope.EVENTS_WRITE] }, withKey(maker));
    await assertFails(more, Code.PermissionDenied, "MISSING_SCOPE");
    const same = await auth.createApiKey({ name: "same", scopes: [Scope.EVENTS_READ] }, withKey(maker));
    assert.deepEqual(same.apiKey?.scopes, [Scope.EVENTS_READ]);
    const unscoped = auth.createApiKey(
      { name: "unscoped", scopes: [Scope.EVENTS_WRITE] },
      withKey(made.secret),
    );
    await assertFails(unscoped, Code.PermissionDenied, "MISSING_SCOPE");
  });

  test("a key of one tenant never reaches another", async () => {
    const other = await server.register("other");
    await ingestion.ingestEvent(
      { event: { eventId: "mine", eventType: "a" } },
      withKey(server.tenant.apiKey),
    );
    await assertFails(
      ingestion.getEvent({ eventId: "mine" }, withKey(other.apiKey)),
      Code.NotFound,
      "NOT_FOUND",
    );
    const made = await ingestion.ingestEvent(
      { event: { eventId: "mine", eventType: "b" } },
      withKey(other.apiKey),
    );
    assert.equal(made.duplicate, false);
  });
});

test("registration can be closed", async () => {
  await using database = await createTestDatabase();
  await using server = await serve(database, { PULSEWIRE_REGISTRATION: "closed" });
  using session = grpcSession(server.url);
  const auth = createClient(AuthService, session.transport);
  const refused = auth.registerTenant({ name: "A", slug: "abc", contactEmail: "a@abc.example" });
  const { metadata } = await assertFails(refused, Code.PermissionDenied, "DISABLED");
  assert.equal(metadata.setting, "PULSEWIRE_REGISTRATION");
});

test("tokens are signed with the given secret", async () => {
  await using server = await startTestServer({ JWT_SECRET_KEY: "0123456789abcdef0123456789abcdef" });
  using session = grpcSession(server.url, { authorization: `Bearer ${server.tenant.token}` });
  const [header = ""] = server.tenant.token.split(".");
  assert.equal(JSON.parse(Buffer.from(header, "base64url").toString()).alg, "HS256");
  const me = await createClient(AuthService, session.transport).getMe({});
  assert.equal(me.tenant?.slug, "first");
});

test("two servers on one database accept each other's tokens", async () => {
  await using first = await startTestServer();
  await using second = await serve(first.database);
  using session = grpcSession(second.url, { authorization: `Bearer ${first.tenant.token}` });
  const me = await createClient(AuthService, session.transport).getMe({});
  assert.equal(me.tenant?.slug, "first");
});
