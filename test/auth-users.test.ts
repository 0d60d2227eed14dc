import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { type Client, Code, createClient } from "@connectrpc/connect";
import type { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { CodePurpose } from "../server/src/gen/pulsewire/auth/v1/session_pb.js";
import { Role, UserState } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
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
import { startMailServer } from "./helpers/smtp.ts";

describe("people", () => {
  let platform: TestPlatform;
  let auth: Client<typeof AuthService>;
  let acme: TestTenant;
  let owner: ReturnType<typeof bearer>;

  before(async () => {
    platform = await startPlatform();
    ({ auth } = platform);
    acme = await platform.base.register("acme");
    owner = bearer(acme.token);
  });
  after(() => platform[Symbol.asyncDispose]());

  const ownerOf = async ({ token }: TestTenant) => {
    const { principal } = await auth.getMe({}, bearer(token));
    assert.equal(principal.case, "user");
    return principal.case === "user" ? principal.value : assert.fail();
  };
  const update = (
    userId: string,
    changes: { role?: Role; state?: UserState; displayName?: string },
    by = owner,
  ) => {
    const names = { role: "role", state: "state", displayName: "display_name" };
    const paths = Object.keys(changes).map((key) => names[key as keyof typeof names]);
    return auth.updateUser({ userId, ...changes, updateMask: { paths } }, by);
  };

  test("an invited person signs in with the temporary password, and is active then", async () => {
    const { user, temporaryPassword, temporaryPasswordExpiresAt } = await auth.inviteUser(
      { email: "New@Acme.example", role: Role.MEMBER, displayName: "Nell" },
      owner,
    );
    assert.deepEqual(
      [user?.email, user?.displayName, user?.role, user?.state, user?.mustChangePassword, user?.tenantId],
      ["new@acme.example", "Nell", Role.MEMBER, UserState.INVITED, true, acme.tenantId],
    );
    const days = (Number(temporaryPasswordExpiresAt?.seconds) * 1_000 - Date.now()) / 86_400_000;
    assert.ok(days > 6.9 && days <= 7);
    const login = await auth.login({
      email: "new@acme.example",
      password: temporaryPassword,
      tenantSlug: "acme",
    });
    assert.deepEqual([login.mustChangePassword, login.user?.state], [true, UserState.ACTIVE]);
  });

  test("an address is in a tenant once, whatever its case and also side by side", async () => {
    const attempts = await Promise.allSettled(
      ["one@acme.example", "ONE@acme.example", "One@Acme.Example"].map((email) =>
        auth.inviteUser({ email, role: Role.VIEWER }, owner),
      ),
    );
    assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
    const again = auth.inviteUser({ email: "one@acme.example", role: Role.VIEWER }, owner);
    assert.deepEqual((await assertFails(again, Code.AlreadyExists, "ALREADY_EXISTS")).fields, ["email"]);
    const other = await platform.base.register("other-place");
    await auth.inviteUser({ email: "one@acme.example", role: Role.VIEWER }, bearer(other.token));
  });

  test("nobody gives or takes away more than they have", async () => {
    const [admin, member, viewer] = await Promise.all(
      (["ADMIN", "MEMBER", "VIEWER"] as const).map((role) => platform.person(acme, role)),
    );
    assert.ok(admin && member && viewer);
    const invite = (role: Role, by: ReturnType<typeof bearer> | ReturnType<typeof withKey>) =>
      auth.inviteUser({ email: `${randomUUID()}@acme.example`, role }, by);
    for (const by of [member, viewer]) {
      await assertFails(invite(Role.VIEWER, by), Code.PermissionDenied, "MISSING_SCOPE");
      await assertFails(update(viewer.id, { role: Role.ADMIN }, by), Code.PermissionDenied, "MISSING_SCOPE");
    }
    for (const role of [Role.ADMIN, Role.MEMBER, Role.VIEWER]) await invite(role, admin);
    const boss = await ownerOf(acme);
    for (const refused of [
      () => invite(Role.OWNER, admin),
      () => update(admin.id, { role: Role.OWNER }, admin),
      () => update(boss.id, { role: Role.VIEWER }, admin),
      () => update(boss.id, { displayName: "Mine" }, admin),
      () => update(boss.id, { state: UserState.DISABLED }, admin),
      () => auth.removeUser({ userId: boss.id }, admin),
      // A key is no owner, not even one with all scopes.
      () => invite(Role.OWNER, withKey(acme.apiKey) as never),
      () => auth.removeUser({ userId: boss.id }, withKey(acme.apiKey)),
    ]) {
      const { metadata } = await assertFails(refused(), Code.PermissionDenied, "INSUFFICIENT_ROLE");
      assert.equal(metadata.role, "OWNER");
    }
    await invite(Role.ADMIN, withKey(acme.apiKey));
    const metrics = createClient(MetricsService, grpcSessionOf(platform.url).transport);
    const { store } = await metrics.createStore({ name: "bound" }, owner);
    const scopes = [Scope.TENANT_ADMIN, Scope.TENANT_READ];
    const narrow = await auth.createApiKey({ name: "narrow", scopes }, owner);
    await assertFails(
      invite(Role.VIEWER, withKey(narrow.secret)),
      Code.PermissionDenied,
      "INSUFFICIENT_ROLE",
    );
    const { scopes: all } = await auth.getMe({}, owner);
    const bound = await auth.createApiKey({ name: "bound", scopes: all, storeIds: [store?.id ?? ""] }, owner);
    await assertFails(invite(Role.VIEWER, withKey(bound.secret)), Code.PermissionDenied, "INSUFFICIENT_ROLE");
  });

  test("lists people by address, page by page, filtered", async () => {
    const tenant = await platform.base.register("listed");
    const by = bearer(tenant.token);
    for (const name of ["cy", "al", "bo"]) {
      await auth.inviteUser({ email: `${name}@listed.example`, role: Role.VIEWER }, by);
    }
    const emails: string[] = [];
    let pageToken = "";
    do {
      const page = await auth.listUsers({ pageSize: 2, pageToken }, by);
      emails.push(...page.users.map(({ email }) => email));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(emails, [
      "al@listed.example",
      "bo@listed.example",
      "cy@listed.example",
      "owner@listed.example",
    ]);
    const count = async (filter: object) => (await auth.listUsers(filter, by)).users.length;
    assert.equal(await count({ role: Role.OWNER }), 1);
    assert.equal(await count({ state: UserState.INVITED }), 3);
    assert.equal(await count({ role: Role.OWNER, state: UserState.INVITED }), 0);
    assert.equal(await count({ emailContains: "BO@" }), 1);
    assert.equal(await count({ emailContains: "%" }), 0);
    const first = await auth.listUsers({ pageSize: 1 }, by);
    const foreign = auth.listUsers({ pageToken: first.nextPageToken }, owner);
    await assertFails(foreign, Code.InvalidArgument, "INVALID_CURSOR");
    const json = await callJson(platform.url, "ListUsers", { role: "ROLE_OWNER" }, by);
    assert.deepEqual(
      json.body.users.map(({ email }: { email: string }) => email),
      ["owner@listed.example"],
    );
  });

  test("a new role counts everywhere within a second, for sessions that are open", async () => {
    const person = await platform.person(acme, "ADMIN");
    const { elsewhere } = platform;
    const administer = () => elsewhere.listAuditEntries({ pageSize: 1 }, person);
    await administer();
    const { user } = await update(person.id, { role: Role.VIEWER });
    assert.equal(user?.role, Role.VIEWER);
    assert.ok((await untilRefused(administer, "MISSING_SCOPE")) < 1_000);
    await elsewhere.listUsers({}, person);
  });

  test("a disabled person is out everywhere within a second, and cannot sign in until enabled", async () => {
    const person = await platform.person(acme, "MEMBER");
    const { elsewhere } = platform;
    await elsewhere.getMe({}, person);
    await update(person.id, { state: UserState.DISABLED });
    assert.ok((await untilRefused(() => elsewhere.getMe({}, person), "INVALID_TOKEN")) < 1_000);
    const login = { email: person.email, password: person.password, tenantSlug: "acme" };
    await assertFails(auth.login(login), Code.Unauthenticated, "INVALID_LOGIN");
    await update(person.id, { state: UserState.ACTIVE });
    await assertFails(elsewhere.getMe({}, person), Code.Unauthenticated, "INVALID_TOKEN");
    await auth.login(login);
  });

  test("the last owner stays", async () => {
    const tenant = await platform.base.register("lonely");
    const by = bearer(tenant.token);
    const boss = await ownerOf(tenant);
    const ways = [
      () => auth.removeUser({ userId: boss.id }, by),
      () => update(boss.id, { role: Role.ADMIN }, by),
      () => update(boss.id, { state: UserState.DISABLED }, by),
      () => auth.removeUser({ userId: boss.id, tenantId: tenant.tenantId }, platform.operator),
    ];
    for (const way of ways) await assertFails(way(), Code.FailedPrecondition, "FAILED_PRECONDITION");
    // An owner who never signed in, or may not, is none to rely on.
    const { user } = await auth.inviteUser({ email: "second@lonely.example", role: Role.OWNER }, by);
    for (const way of ways) await assertFails(way(), Code.FailedPrecondition, "FAILED_PRECONDITION");
    await update(user?.id ?? "", { state: UserState.ACTIVE }, by);
    await update(user?.id ?? "", { state: UserState.DISABLED }, by);
    for (const way of ways) await assertFails(way(), Code.FailedPrecondition, "FAILED_PRECONDITION");
    await update(user?.id ?? "", { state: UserState.ACTIVE }, by);
    await auth.removeUser({ userId: boss.id }, by);
  });

  test("two owners who remove, demote or disable each other at once leave one", async () => {
    const tenant = await platform.base.register("rivals");
    const { tenantId } = tenant;
    let by = bearer(tenant.token);
    let self = (await ownerOf(tenant)).id;
    const attacks: ((id: string, by: ReturnType<typeof bearer>) => Promise<unknown>)[] = [
      (userId, by) => auth.removeUser({ userId }, by),
      (userId, by) => update(userId, { role: Role.MEMBER }, by),
      (userId, by) => update(userId, { state: UserState.DISABLED }, by),
    ];
    for (let round = 0; round < 12; round++) {
      const rival = await platform.person(tenant, "OWNER");
      const attack = attacks[round % attacks.length] ?? assert.fail();
      const counter = attacks[(round + (round % 2)) % attacks.length] ?? assert.fail();
      await Promise.allSettled([attack(rival.id, by), counter(self, rival)]);
      const { rows } = await platform.base.database.superuser.query<{ id: string }>(
        "select id from users where tenant_id = $1 and role = 'OWNER' and state = 'ACTIVE'",
        [tenantId],
      );
      assert.equal(rows.length, 1, `round ${round}`);
      if (rows[0]?.id === rival.id) [by, self] = [rival, rival.id];
    }
  });

  test("refuses a change of what has changed, or cannot be changed", async () => {
    const person = await platform.person(acme, "MEMBER");
    const first = await update(person.id, { displayName: "One" });
    const second = await update(person.id, { displayName: "Two" });
    assert.notEqual(first.user?.etag, second.user?.etag);
    const stale = { userId: person.id, displayName: "Three", etag: first.user?.etag ?? "" };
    await assertFails(
      auth.updateUser({ ...stale, updateMask: { paths: ["display_name"] } }, owner),
      Code.Aborted,
      "ETAG_MISMATCH",
    );
    await assertFails(
      auth.removeUser({ userId: person.id, etag: first.user?.etag ?? "" }, owner),
      Code.Aborted,
      "ETAG_MISMATCH",
    );
    for (const paths of [["email"], ["platform_admin"], ["role", "tenant_id"], []]) {
      const refused = auth.updateUser({ userId: person.id, role: Role.VIEWER, updateMask: { paths } }, owner);
      assert.deepEqual((await assertFails(refused, Code.InvalidArgument, "INVALID_FIELD")).fields, [
        "update_mask",
      ]);
    }
    const nothing = auth.updateUser({ userId: person.id, updateMask: { paths: ["role"] } }, owner);
    assert.deepEqual((await assertFails(nothing, Code.InvalidArgument, "INVALID_FIELD")).fields, ["role"]);
    await assertFails(update(randomUUID(), { displayName: "X" }), Code.NotFound, "NOT_FOUND");
    const foreign = await platform.base.register("foreign");
    for (const call of [
      () => update(person.id, { displayName: "X" }, bearer(foreign.token)),
      () => auth.removeUser({ userId: person.id }, bearer(foreign.token)),
      () => auth.removeUser({ userId: person.id, tenantId: acme.tenantId }, bearer(foreign.token)),
    ]) {
      await assertFails(call(), Code.NotFound, "NOT_FOUND");
    }
  });

  test("no field carries more than its name says", async () => {
    const person = await platform.person(acme, "MEMBER");
    const admin = await platform.person(acme, "ADMIN");
    // What the mask does not name does not count.
    await auth.updateUser(
      { userId: person.id, displayName: "Me", role: Role.ADMIN, updateMask: { paths: ["display_name"] } },
      admin,
    );
    const send = (method: string, body: object) => callJson(platform.url, method, body, admin);
    const email = "sly@acme.example";
    for (const body of [
      { email, role: "ROLE_VIEWER", platformAdmin: true },
      { email, role: "ROLE_VIEWER", state: "USER_STATE_ACTIVE" },
      { email, role: "ROLE_VIEWER", user: { role: "ROLE_OWNER" } },
      { email, role: "ROLE_VIEWER", passwordHash: "x" },
      { email, role: 99 },
      { email },
    ]) {
      assert.equal((await send("InviteUser", body)).status, 400, JSON.stringify(body));
    }
    for (const body of [
      { userId: person.id, updateMask: "platformAdmin", platformAdmin: true },
      { userId: person.id, updateMask: "role", role: "ROLE_ADMIN", id: admin.id },
      { userId: person.id, updateMask: "mustChangePassword" },
      { userId: person.id, updateMask: "state", state: "USER_STATE_INVITED" },
    ]) {
      assert.equal((await send("UpdateUser", body)).status, 400, JSON.stringify(body));
    }
    const { users } = await auth.listUsers({ emailContains: person.email }, owner);
    assert.deepEqual(
      [users[0]?.role, users[0]?.displayName, users[0]?.platformAdmin],
      [Role.MEMBER, "Me", false],
    );
  });

  test("a removed person is gone with their sessions, and on demand with their keys", async () => {
    const person = await platform.person(acme, "MEMBER");
    const other = await platform.logIn(person.email, person.password, "acme");
    const key = await auth.createApiKey({ name: "theirs" }, person);
    const { elsewhere } = platform;
    await Promise.all([
      elsewhere.getMe({}, person),
      elsewhere.getMe({}, other),
      elsewhere.getMe({}, withKey(key.secret)),
    ]);
    const answer = await auth.removeUser({ userId: person.id, revokeApiKeys: true }, owner);
    assert.deepEqual([answer.sessionsEnded, answer.apiKeysRevoked], [2, 1]);
    assert.ok((await untilRefused(() => elsewhere.getMe({}, person), "INVALID_TOKEN")) < 1_000);
    assert.ok((await untilRefused(() => elsewhere.getMe({}, other), "INVALID_TOKEN")) < 1_000);
    assert.ok(
      (await untilRefused(() => elsewhere.getMe({}, withKey(key.secret)), "INVALID_API_KEY")) < 1_000,
    );
    await assertFails(auth.removeUser({ userId: person.id }, owner), Code.NotFound, "NOT_FOUND");

    const second = await platform.person(acme, "MEMBER");
    const kept = await auth.createApiKey({ name: "kept" }, second);
    const { apiKeysRevoked } = await auth.removeUser({ userId: second.id }, owner);
    assert.equal(apiKeysRevoked, 0);
    await elsewhere.getMe({}, withKey(kept.secret));
    const { auditEntries } = await auth.listAuditEntries({ filter: { resourceId: second.id } }, owner);
    assert.deepEqual(auditEntries[0]?.details, {
      email: { old: second.email },
      role: { old: "MEMBER" },
    });
  });

  test("an invitation by e-mail needs a mail server", async () => {
    const call = auth.inviteUser({ email: "far@acme.example", role: Role.VIEWER, sendEmail: true }, owner);
    const { metadata } = await assertFails(call, Code.FailedPrecondition, "NOT_CONFIGURED");
    assert.equal(metadata.setting, "PULSEWIRE_SMTP_URL");
    const { users } = await auth.listUsers({ emailContains: "far@" }, owner);
    assert.deepEqual(users, []);
  });
});

test("an invitation by e-mail holds no secret, and a code signs in", async () => {
  await using mail = await startMailServer();
  await using platform = await startPlatform({
    PULSEWIRE_SMTP_URL: mail.url,
    PULSEWIRE_MAIL_FROM: "pulsewire@first.example",
  });
  const { auth, base } = platform;
  const invited = await auth.inviteUser(
    { email: "far@first.example", role: Role.MEMBER, sendEmail: true },
    bearer(base.tenant.token),
  );
  assert.deepEqual([invited.temporaryPassword, invited.temporaryPasswordExpiresAt], ["", undefined]);
  assert.equal(invited.user?.mustChangePassword, false);
  const started = performance.now();
  while (mail.received.length === 0 && performance.now() - started < 5_000) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const [invitation] = mail.received;
  assert.deepEqual(invitation?.to, ["far@first.example"]);
  assert.match(invitation?.source ?? "", /tenant 'first'/);
  // The invitation is the message before: only one that came after it has a code.
  const seen = mail.received.length;
  await auth.requestCode({ email: "far@first.example", purpose: CodePurpose.LOGIN });
  while (mail.received.length === seen && performance.now() - started < 10_000) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  const code = /^Your code: (\d{6})\r?$/m.exec(mail.received.at(-1)?.source ?? "")?.[1] ?? "";
  const signedIn = await auth.verifyCode({ email: "far@first.example", code, tenantSlug: "first" });
  assert.deepEqual(
    [signedIn.user?.id, signedIn.user?.state, signedIn.user?.emailVerified],
    [invited.user?.id, UserState.ACTIVE, true],
  );
});

const sessions: ReturnType<typeof grpcSession>[] = [];
function grpcSessionOf(url: string) {
  const session = grpcSession(url);
  sessions.push(session);
  return session;
}
after(() => {
  for (const session of sessions) session[Symbol.dispose]();
});
