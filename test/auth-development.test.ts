import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { envToConfig } from "../server/src/config/config.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Role } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

describe("development tokens", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;

  before(async () => {
    server = await startTestServer({
      PULSEWIRE_DEVELOPMENT_TOKENS: "on",
      PULSEWIRE_DEVELOPMENT_TOKEN_TTL: "7200",
    });
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("who is named first gets a tenant, and then always the same", async () => {
    const asked = { userId: "alice", username: "Alice", email: "Alice@Example.org" };
    const first = await auth.issueDevelopmentToken(asked);
    assert.deepEqual(
      [first.userId, first.username, first.email, first.namespace, first.tokenType, first.expiresIn],
      ["alice", "Alice", "Alice@Example.org", "tenant-alice", "Bearer", 7_200],
    );
    const me = await auth.getMe({}, bearer(first.token));
    assert.deepEqual(
      [me.tenant?.id, me.tenant?.slug, me.tenant?.namespace],
      [first.tenantId, "dev-alice", "tenant-alice"],
    );
    assert.ok(me.principal.case === "user");
    const { role, externalId, email, emailVerified, displayName } = me.principal.value;
    assert.deepEqual(
      [role, externalId, email, emailVerified, displayName],
      [Role.OWNER, "alice", "alice@example.org", false, "Alice"],
    );
    const again = await auth.issueDevelopmentToken({ userId: "alice", username: "Alice Liddell" });
    assert.equal(again.tenantId, first.tenantId);
    const renamed = await auth.getMe({}, bearer(again.token));
    assert.ok(renamed.principal.case === "user");
    assert.equal(renamed.principal.value.displayName, "Alice Liddell");
    assert.equal(renamed.principal.value.id, me.principal.value.id);
  });

  test("first calls that arrive together make one tenant and one user", async () => {
    const tokens = await Promise.all(
      Array.from({ length: 10 }, () => auth.issueDevelopmentToken({ userId: "together" })),
    );
    assert.equal(new Set(tokens.map(({ tenantId }) => tenantId)).size, 1);
    const { rows } = await server.database.superuser.query(
      "select from users where external_id = 'together'",
    );
    assert.equal(rows.length, 1);
    for (const { token } of tokens) await auth.getMe({}, bearer(token));
  });

  test("a token reaches no other tenant and ends with log-out", async () => {
    const bob = await auth.issueDevelopmentToken({ userId: "bob" });
    const carol = await auth.issueDevelopmentToken({ userId: "carol" });
    const ingestion = createClient(IngestionService, session.transport);
    await ingestion.ingestEvent({ event: { eventId: "bobs", eventType: "a" } }, bearer(bob.token));
    const foreign = ingestion.getEvent({ eventId: "bobs" }, bearer(carol.token));
    await assertFails(foreign, Code.NotFound, "NOT_FOUND");
    assert.equal((await auth.logout({}, bearer(bob.token))).sessionsEnded, 1);
    await assertFails(auth.getMe({}, bearer(bob.token)), Code.Unauthenticated, "INVALID_TOKEN");
  });

  test("a user id that reads like another tenant's namespace is refused", async () => {
    const call = auth.issueDevelopmentToken({ userId: server.tenant.tenantId });
    const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
    assert.deepEqual(fields, ["user_id"]);
    for (const userId of ["", "-a", "a-", "A", "a.b", "a".repeat(57)]) {
      await assertFails(auth.issueDevelopmentToken({ userId }), Code.InvalidArgument, "INVALID_FIELD");
    }
  });
});

test("elsewhere nobody gets one, and the error says why", async () => {
  await using server = await startTestServer();
  const res = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/IssueDevelopmentToken`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ userId: "alice" }),
  });
  assert.equal(res.status, 403);
  const { message } = (await res.json()) as { message: string };
  assert.match(message, /PULSEWIRE_DEVELOPMENT_TOKENS=on/);
  using session = grpcSession(server.url);
  const call = createClient(AuthService, session.transport).issueDevelopmentToken({ userId: "alice" });
  const { metadata } = await assertFails(call, Code.PermissionDenied, "DISABLED");
  assert.equal(metadata.setting, "PULSEWIRE_DEVELOPMENT_TOKENS");
  const { rows } = await server.database.superuser.query("select from tenants where slug like 'dev-%'");
  assert.equal(rows.length, 0);
});

test("only the embedded default on loopback gives them without being asked to", () => {
  const on = (settings: Parameters<typeof envToConfig>[0]) => envToConfig(settings).auth.developmentTokens;
  assert.equal(on({}), true);
  assert.equal(on({ HOST: "127.0.0.2" }), true);
  assert.equal(on({ HOST: "::1" }), true);
  assert.equal(on({ HOST: "0.0.0.0" }), false);
  assert.equal(on({ HOST: "127.0.0.1.example.org" }), false);
  assert.equal(on({ PULSEWIRE_DEVELOPMENT_TOKENS: "off" }), false);
  assert.equal(on({ DATABASE_URL: "postgres://localhost/x", HOST: "127.0.0.1" }), false);
  assert.equal(on({ DATABASE_URL: "postgres://localhost/x", PULSEWIRE_DEVELOPMENT_TOKENS: "on" }), true);
});
