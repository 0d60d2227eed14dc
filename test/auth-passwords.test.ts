import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { isCommonPassword } from "../server/src/auth/passwords/common.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { addPerson } from "./helpers/people.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

describe("passwords", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  const person = (name: string, given?: Parameters<typeof addPerson>[3]) =>
    addPerson(server.database, server.tenant.tenantId, `${name}@first.example`, given);
  const enter = (who: { email: string; password: string }) =>
    auth.login({ email: who.email, password: who.password, tenantSlug: server.tenant.slug });
  const ended = (token: string) =>
    assertFails(auth.getMe({}, bearer(token)), Code.Unauthenticated, "INVALID_TOKEN");

  before(async () => {
    server = await startTestServer({ PULSEWIRE_LOGIN_LOCK: "60" });
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("a new password ends all other sessions and the earlier tokens of this one", async () => {
    const who = await person("changer");
    const [mine, other] = [await enter(who), await enter(who)];
    const newPassword = "a quite new password";
    const changed = await auth.changePassword(
      { currentPassword: who.password, newPassword },
      bearer(mine.accessToken),
    );
    assert.equal(changed.sessionsEnded, 1);
    await ended(mine.accessToken);
    await ended(other.accessToken);
    for (const { refreshToken } of [mine, other]) {
      await assertFails(auth.refreshToken({ refreshToken }), Code.Unauthenticated, "INVALID_TOKEN");
    }
    const me = await auth.getMe({}, bearer(changed.accessToken));
    assert.equal(me.scopes.includes(Scope.EVENTS_WRITE), true);
    await auth.refreshToken({ refreshToken: changed.refreshToken });
    await assertFails(enter(who), Code.Unauthenticated, "INVALID_LOGIN");
    await enter({ ...who, password: newPassword });
  });

  test("of two changes at once one wins", async () => {
    const who = await person("racer");
    const [one, two] = [await enter(who), await enter(who)];
    const attempts = await Promise.allSettled(
      [one, two].map(({ accessToken }, i) =>
        auth.changePassword(
          { currentPassword: who.password, newPassword: `the password of racer ${i}` },
          bearer(accessToken),
        ),
      ),
    );
    assert.deepEqual(attempts.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
    const winner = attempts.findIndex(({ status }) => status === "fulfilled");
    await enter({ ...who, password: `the password of racer ${winner}` });
  });

  test("a wrong current password counts for the lock of Login", async () => {
    const who = await person("guessed");
    const { accessToken } = await enter(who);
    for (let i = 0; i < 5; i++) {
      const guess = auth.changePassword(
        { currentPassword: `guess ${i}`, newPassword: "a password for a thief" },
        bearer(accessToken),
      );
      await assertFails(guess, Code.Unauthenticated, "INVALID_LOGIN");
    }
    await assertFails(enter(who), Code.ResourceExhausted, "RATE_LIMITED");
    const right = auth.changePassword(
      { currentPassword: who.password, newPassword: "a password for a thief" },
      bearer(accessToken),
    );
    await assertFails(right, Code.ResourceExhausted, "RATE_LIMITED");
  });

  test("short, common and unchanged passwords are refused, and say so", async () => {
    const who = await person("lazy");
    const { accessToken } = await enter(who);
    for (const newPassword of ["short", "Password1234!", "aaaaaaaaaaaa", who.password]) {
      const call = auth.changePassword({ currentPassword: who.password, newPassword }, bearer(accessToken));
      const { fields } = await assertFails(call, Code.InvalidArgument, "INVALID_FIELD");
      assert.deepEqual(fields, ["new_password"], newPassword);
    }
    await enter(who);
  });

  test("a temporary password that has expired cannot be replaced with itself", async () => {
    const who = await person("slow");
    const reset = await auth.resetPassword({ userId: who.id }, bearer(server.tenant.token));
    const { accessToken, mustChangePassword } = await enter({ ...who, password: reset.temporaryPassword });
    assert.equal(mustChangePassword, true);
    await server.database.superuser.query(
      "update users set temporary_password_expires_at = now() where id = $1",
      [who.id],
    );
    const change = auth.changePassword(
      { currentPassword: reset.temporaryPassword, newPassword: "too late, my friend" },
      bearer(accessToken),
    );
    await assertFails(change, Code.Unauthenticated, "INVALID_LOGIN");
  });

  test("an admin gives a temporary password, which lifts the lock and ends the sessions", async () => {
    const who = await person("forgetful");
    const { accessToken } = await enter(who);
    for (let i = 0; i < 5; i++) await enter({ ...who, password: "no" }).catch(() => {});
    await assertFails(enter(who), Code.ResourceExhausted, "RATE_LIMITED");

    const reset = await auth.resetPassword({ userId: who.id }, bearer(server.tenant.token));
    assert.equal(reset.sessionsEnded, 1);
    assert.equal(reset.user?.mustChangePassword, true);
    await ended(accessToken);
    await assertFails(enter(who), Code.Unauthenticated, "INVALID_LOGIN");
    const restricted = await enter({ ...who, password: reset.temporaryPassword });
    const { scopes } = await auth.getMe({}, bearer(restricted.accessToken));
    assert.ok(!scopes.includes(Scope.AUDIT_READ) && scopes.includes(Scope.EVENTS_READ));
    await auth.changePassword(
      { currentPassword: reset.temporaryPassword, newPassword: "mine again at last" },
      bearer(restricted.accessToken),
    );
  });

  test("nobody gets hold of somebody with more than they have", async () => {
    const owner = await person("second-owner", { role: "OWNER" });
    const admin = await enter(await person("an-admin", { role: "ADMIN" }));
    const member = await person("a-member");
    const disabled = await person("disabled", { state: "DISABLED" });
    const as = (token: string, userId: string) => auth.resetPassword({ userId }, bearer(token));
    await assertFails(as(admin.accessToken, owner.id), Code.PermissionDenied, "INSUFFICIENT_ROLE");
    await as(admin.accessToken, member.id);
    const memberToken = (await enter(await person("other-member"))).accessToken;
    await assertFails(as(memberToken, member.id), Code.PermissionDenied, "MISSING_SCOPE");

    const { secret } = await auth.createApiKey(
      { name: "admin only", scopes: [Scope.TENANT_ADMIN] },
      bearer(server.tenant.token),
    );
    const byKey = auth.resetPassword({ userId: member.id }, { headers: { "x-api-key": secret } });
    await assertFails(byKey, Code.PermissionDenied, "INSUFFICIENT_ROLE");

    const { token } = server.tenant;
    await assertFails(as(token, disabled.id), Code.FailedPrecondition, "FAILED_PRECONDITION");
    await assertFails(as(token, crypto.randomUUID()), Code.NotFound, "NOT_FOUND");
    const self = (await auth.getMe({}, bearer(token))).principal;
    assert.ok(self.case === "user");
    await assertFails(as(token, self.value.id), Code.FailedPrecondition, "FAILED_PRECONDITION");
    const stranger = await server.register("strangers");
    await assertFails(as(stranger.token, member.id), Code.NotFound, "NOT_FOUND");
    const { tenantId } = server.tenant;
    const across = auth.resetPassword({ userId: member.id, tenantId }, bearer(stranger.token));
    await assertFails(across, Code.NotFound, "NOT_FOUND");
  });
});

test("common passwords are told from others", () => {
  const common = [
    "Password1234!",
    "p@ssw0rd12345",
    "W3lcome-2026!",
    "iloveyou1234",
    "qwertyuiop123",
    "123456789012",
    "abcdefghijkl",
    "passwordpassword",
    "abcabcabcabc",
    "121212121212",
    "zxcvbnm12345",
    "adminadmin2026",
    "Summer2026!!",
    "1q2w3e4r5t6y",
    "aaaaaaaaaaab",
  ];
  const fine = [
    "correct horse battery",
    "a password for first",
    "Tr0ub4dor&3xyz",
    "kV9#mQ2$xL7!",
    "82736450918273",
    "heute regnet es wieder",
    "пароль длинный мой",
  ];
  assert.deepEqual(
    common.filter((password) => !isCommonPassword(password)),
    [],
  );
  assert.deepEqual(fine.filter(isCommonPassword), []);
});
