import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { createStandings } from "../server/src/auth/sessions/standings.ts";
import { RetryInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../server/src/gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { testLogger } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { addPerson } from "./helpers/people.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

/** Asks until the answer is as wanted; fails when that takes more than a second. */
async function withinASecond(isSo: () => Promise<boolean>): Promise<void> {
  const started = performance.now();
  while (!(await isSo())) {
    assert.ok(performance.now() - started < 1_000, "it took more than a second");
    await sleep(10);
  }
}

describe("sessions", () => {
  let server: TestServer;
  let other: Awaited<ReturnType<typeof serve>>;
  let sessions: ReturnType<typeof grpcSession>[];
  let auth: Client<typeof AuthService>;
  let elsewhere: Client<typeof AuthService>;
  const login = () => {
    const { email, password, slug } = server.tenant;
    return auth.login({ email, password, tenantSlug: slug });
  };
  const works = (client: Client<typeof AuthService>, token: string) =>
    client.getMe({}, bearer(token)).then(
      () => true,
      (error) => {
        assert.equal(ConnectError.from(error).code, Code.Unauthenticated);
        return false;
      },
    );

  before(async () => {
    server = await startTestServer({ PULSEWIRE_LOGIN_LOCK: "30" });
    other = await serve(server.database, { PULSEWIRE_LOGIN_LOCK: "1" });
    sessions = [grpcSession(server.url), grpcSession(other.url)];
    [auth, elsewhere] = sessions.map(({ transport }) => createClient(AuthService, transport)) as [
      typeof auth,
      typeof auth,
    ];
  });
  after(async () => {
    for (const session of sessions) session[Symbol.dispose]();
    await other[Symbol.asyncDispose]();
    await server.stop();
  });

  test("a sign-in opens a session, which goes on with each refresh token once", async () => {
    const first = await login();
    assert.equal(first.refreshExpiresIn, 30 * 86_400);
    const me = await auth.getMe({}, bearer(first.accessToken));
    assert.match(me.sessionId, /^[0-9a-f-]{36}$/);
    const life = timestampMs(me.expiresAt ?? assert.fail()) - Date.now();
    assert.ok(life > 3_590_000 && life <= 3_600_000, `${life}`);
    assert.ok(me.principal.case === "user" && me.principal.value.lastLoginAt);

    const second = await auth.refreshToken({ refreshToken: first.refreshToken });
    assert.notEqual(second.refreshToken, first.refreshToken);
    const again = await auth.getMe({}, bearer(second.accessToken));
    assert.equal(again.sessionId, me.sessionId);
    const third = await elsewhere.refreshToken({ refreshToken: second.refreshToken });
    assert.ok(await works(elsewhere, third.accessToken));
  });

  test("a refresh token that is used twice ends the session for whoever has it", async () => {
    const first = await login();
    const second = await auth.refreshToken({ refreshToken: first.refreshToken });
    assert.ok(await works(elsewhere, second.accessToken));
    await assertFails(
      elsewhere.refreshToken({ refreshToken: first.refreshToken }),
      Code.Unauthenticated,
      "INVALID_TOKEN",
    );
    await assertFails(
      auth.refreshToken({ refreshToken: second.refreshToken }),
      Code.Unauthenticated,
      "INVALID_TOKEN",
    );
    for (const client of [auth, elsewhere]) {
      await withinASecond(async () => !(await works(client, second.accessToken)));
    }
  });

  test("an old token of three refreshes ago ends the session as well", async () => {
    const first = await login();
    let { refreshToken, accessToken } = first as { refreshToken: string; accessToken: string };
    for (let i = 0; i < 3; i++) ({ refreshToken, accessToken } = await auth.refreshToken({ refreshToken }));
    const replay = auth.refreshToken({ refreshToken: first.refreshToken });
    await assertFails(replay, Code.Unauthenticated, "INVALID_TOKEN");
    assert.equal(await works(auth, accessToken), false);
  });

  test("made-up refresh tokens end nothing, not even with the right ids", async () => {
    const { refreshToken, accessToken } = await login();
    const bytes = Buffer.from(refreshToken.slice(4), "base64url");
    const forged = (from: number) => {
      const copy = Buffer.from(bytes);
      copy.fill(7, from);
      return `pwr_${copy.toString("base64url")}`;
    };
    const texts = [forged(32), forged(0), forged(16), "pwr_", "x", `${refreshToken}A`, accessToken];
    for (const text of texts) {
      await assertFails(auth.refreshToken({ refreshToken: text }), Code.Unauthenticated, "INVALID_TOKEN");
    }
    assert.ok(await works(auth, accessToken));
    await auth.refreshToken({ refreshToken });
  });

  test("of 20 refreshes at once with one token exactly one is answered, and the theft ends the session", async () => {
    const { refreshToken } = await login();
    const attempts = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => (i % 2 ? auth : elsewhere).refreshToken({ refreshToken })),
    );
    const answers = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
    assert.equal(answers.length, 1);
    for (const attempt of attempts) {
      if (attempt.status === "rejected") assert.equal(attempt.reason.code, Code.Unauthenticated);
    }
    const [winner] = answers;
    await withinASecond(async () => !(await works(elsewhere, winner?.accessToken ?? "")));
    const next = auth.refreshToken({ refreshToken: winner?.refreshToken ?? "" });
    await assertFails(next, Code.Unauthenticated, "INVALID_TOKEN");
  });

  test("20 refreshes at once that are one call, by its request id, have one answer", async () => {
    const { refreshToken } = await login();
    const requestId = crypto.randomUUID();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        (i % 2 ? auth : elsewhere).refreshToken({ refreshToken, requestId }),
      ),
    );
    assert.equal(new Set(answers.map((answer) => answer.refreshToken)).size, 1);
    const [answer] = answers;
    await auth.refreshToken({ refreshToken: answer?.refreshToken ?? "" });
  });

  test("a refresh token that has expired is of no use", async () => {
    const { refreshToken, accessToken } = await login();
    const { sessionId } = await auth.getMe({}, bearer(accessToken));
    await server.database.superuser.query("update sessions set expires_at = now() where id = $1", [
      sessionId,
    ]);
    await assertFails(auth.refreshToken({ refreshToken }), Code.Unauthenticated, "INVALID_TOKEN");
  });

  test("log-out ends this session, or all of them, in every process within a second", async () => {
    const { tenantId } = server.tenant;
    const someone = await addPerson(server.database, tenantId, "leaver@first.example");
    const enter = () => auth.login({ ...someone, tenantSlug: server.tenant.slug });
    const [one, two, three] = [await enter(), await enter(), await enter()];
    for (const { accessToken } of [one, two, three]) assert.ok(await works(elsewhere, accessToken));

    const ended = await auth.logout({}, bearer(one.accessToken));
    assert.equal(ended.sessionsEnded, 1);
    assert.equal(await works(auth, one.accessToken), false);
    await withinASecond(async () => !(await works(elsewhere, one.accessToken)));
    await assertFails(
      auth.refreshToken({ refreshToken: one.refreshToken }),
      Code.Unauthenticated,
      "INVALID_TOKEN",
    );
    assert.ok(await works(elsewhere, two.accessToken));

    const all = await elsewhere.logout({ everywhere: true }, bearer(two.accessToken));
    assert.equal(all.sessionsEnded, 2);
    for (const client of [auth, elsewhere]) {
      for (const { accessToken } of [two, three]) {
        await withinASecond(async () => !(await works(client, accessToken)));
      }
    }
    assert.ok(await works(auth, server.tenant.token), "other people stay signed in");
  });

  test("an API key has no session to end", async () => {
    const withKey = { headers: { "x-api-key": server.tenant.apiKey } };
    await assertFails(auth.logout({}, withKey), Code.FailedPrecondition, "FAILED_PRECONDITION");
    const change = auth.changePassword({ currentPassword: "", newPassword: "a password of a key" }, withKey);
    await assertFails(change, Code.FailedPrecondition, "FAILED_PRECONDITION");
    const me = await auth.getMe({}, withKey);
    assert.equal(me.sessionId, "");
  });

  test("what a user may do changes within a second of the change", async () => {
    const { tenantId, slug } = server.tenant;
    const someone = await addPerson(server.database, tenantId, "changing@first.example", { role: "ADMIN" });
    const { accessToken, refreshToken } = await auth.login({ ...someone, tenantSlug: slug });
    const scopes = async () => (await elsewhere.getMe({}, bearer(accessToken))).scopes;
    assert.ok((await scopes()).includes(Scope.TENANT_ADMIN));
    const change = async (statement: string) => {
      await server.database.superuser.query(statement, [someone.id]);
      await server.context.bus.publish("sessions", JSON.stringify({ tenantId, userId: someone.id }));
    };

    await change("update users set role = 'VIEWER' where id = $1");
    await withinASecond(async () => !(await scopes()).includes(Scope.TENANT_ADMIN));
    await change("update users set state = 'DISABLED' where id = $1");
    await withinASecond(async () => !(await works(elsewhere, accessToken)));
    await assertFails(auth.refreshToken({ refreshToken }), Code.Unauthenticated, "INVALID_TOKEN");
    const again = auth.login({ ...someone, tenantSlug: slug });
    await assertFails(again, Code.Unauthenticated, "INVALID_LOGIN");
    await change("delete from users where id = $1");
    await withinASecond(async () => !(await works(auth, accessToken)));
  });

  test("a suspended tenant is closed, but says so only to who has the right password", async () => {
    const closed = await server.register("closed");
    const credentials = { email: closed.email, password: closed.password, tenantSlug: "closed" };
    const { refreshToken } = await auth.login(credentials);
    await elsewhere.getMe({}, bearer(closed.token));
    const set = async (state: string) => {
      const { superuser } = server.database;
      await superuser.query("update tenants set state = $1 where id = $2", [state, closed.tenantId]);
      await server.context.bus.publish("tenants", JSON.stringify({ tenantId: closed.tenantId }));
    };
    await set("SUSPENDED");
    await withinASecond(() =>
      elsewhere.getMe({}, bearer(closed.token)).then(
        () => false,
        (error) => ConnectError.from(error).code === Code.PermissionDenied,
      ),
    );
    const refused = elsewhere.getMe({}, bearer(closed.token));
    await assertFails(refused, Code.PermissionDenied, "TENANT_SUSPENDED");
    await assertFails(auth.login(credentials), Code.PermissionDenied, "TENANT_SUSPENDED");
    await assertFails(auth.refreshToken({ refreshToken }), Code.PermissionDenied, "TENANT_SUSPENDED");
    const guess = auth.login({ ...credentials, password: "a wrong one" });
    await assertFails(guess, Code.Unauthenticated, "INVALID_LOGIN");
    await set("ACTIVE");
    await auth.refreshToken({ refreshToken });
    await withinASecond(() =>
      elsewhere.getMe({}, bearer(closed.token)).then(
        () => true,
        () => false,
      ),
    );
  });

  test("a token that was seen costs no query of its session", async () => {
    const { accessToken } = await login();
    await auth.getMe({}, bearer(accessToken));
    const client = await server.database.superuser.connect();
    try {
      await client.query("begin; lock table sessions in access exclusive mode");
      for (let i = 0; i < 5; i++) await auth.getMe({}, { ...bearer(accessToken), timeoutMs: 1_000 });
    } finally {
      await client.query("rollback");
      client.release();
    }
  });

  test("refresh tokens are stored as hashes only", async () => {
    const { refreshToken } = await login();
    const bytes = Buffer.from(refreshToken.slice(4), "base64url");
    const { rows } = await server.database.superuser.query("select s::text as row from sessions s");
    for (const { row } of rows) {
      assert.ok(!row.includes(bytes.subarray(32, 48).toString("hex")));
      assert.ok(!row.includes(bytes.subarray(48).toString("hex")));
    }
  });

  test("what expired sessions have left is deleted with the next sign-in", async () => {
    const someone = await addPerson(server.database, server.tenant.tenantId, "often@first.example");
    const enter = () => auth.login({ ...someone, tenantSlug: server.tenant.slug });
    await enter();
    await enter();
    const { superuser } = server.database;
    await superuser.query("update sessions set expires_at = now() where user_id = $1", [someone.id]);
    await enter();
    const { rows } = await superuser.query("select from sessions where user_id = $1", [someone.id]);
    assert.equal(rows.length, 1);
  });

  test("while the bus is broken nothing is believed for longer than a second, and after a gap nothing at all", async () => {
    const { accessToken } = await login();
    const { sessionId } = await auth.getMe({}, bearer(accessToken));
    const { tenantId } = server.tenant;
    const { superuser, app } = server.database;
    const gaps: (() => void)[] = [];
    const bus = {
      connected: true,
      publish: async () => {},
      subscribe: () => () => {},
      onGap: (listener: () => void) => {
        gaps.push(listener);
        return () => {};
      },
    };
    const standings = createStandings(app.db, bus, testLogger, { size: 10, ttlMs: 60_000 });
    const isAlive = async () => (await standings.find(tenantId, sessionId)).standing !== undefined;
    const setRole = (role: string) =>
      superuser.query("update users u set role = $1 from sessions s where s.id = $2 and s.user_id = u.id", [
        role,
        sessionId,
      ]);
    const role = async () => (await standings.find(tenantId, sessionId)).standing?.role;

    assert.ok(await isAlive());
    await setRole("ADMIN");
    assert.equal(await role(), "OWNER", "it was remembered");
    for (const gap of gaps) gap();
    assert.equal(await role(), "ADMIN");
    bus.connected = false;
    await setRole("OWNER");
    await withinASecond(async () => (await role()) === "OWNER");
    await superuser.query("delete from sessions where id = $1", [sessionId]);
    await withinASecond(async () => !(await isAlive()));
    standings.close();
  });

  test("sign-ins, log-outs and thefts stand in the audit log of the tenant, without any secret", async () => {
    const first = await login();
    const { sessionId } = await auth.getMe({}, bearer(first.accessToken));
    await auth.refreshToken({ refreshToken: first.refreshToken });
    const replay = auth.refreshToken({ refreshToken: first.refreshToken });
    await assertFails(replay, Code.Unauthenticated, "INVALID_TOKEN");
    const find = async () => {
      const { auditEntries } = await auth.listAuditEntries({ pageSize: 1_000 }, bearer(server.tenant.token));
      return auditEntries.filter((entry) => entry.resourceId === sessionId);
    };
    // The failure is entered without keeping its answer waiting.
    await withinASecond(async () => (await find()).length === 2);
    const methods = (await find()).map(
      ({ method, errorReason }) => `${method.split("/")[1]} ${ErrorReason[errorReason]}`,
    );
    assert.deepEqual(methods.sort(), ["Login UNSPECIFIED", "RefreshToken INVALID_TOKEN"]);
    const { rows } = await server.database.superuser.query("select e::text as row from audit_entries e");
    for (const { row } of rows) {
      assert.ok(!row.includes(first.refreshToken) && !row.includes(server.tenant.password));
    }
  });

  test("sign-in, refresh and log-out as JSON over HTTP/1.1", async () => {
    const call = async (method: string, body: unknown, headers: Record<string, string> = {}) => {
      const res = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/${method}`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify(body),
      });
      return { status: res.status, body: (await res.json()) as Record<string, string> };
    };
    const { email, password, slug: tenantSlug } = server.tenant;
    const opened = await call("Login", { email, password, tenantSlug });
    assert.equal(opened.status, 200);
    const { refreshToken } = opened.body;
    const next = await call("RefreshToken", { refreshToken });
    assert.equal(next.body.tokenType, "Bearer");
    const authorization = { authorization: `Bearer ${next.body.accessToken}` };
    assert.equal((await call("Logout", {}, authorization)).body.sessionsEnded, 1);
    assert.equal((await call("GetMe", {}, authorization)).status, 401);
    const replay = await call("RefreshToken", { refreshToken });
    assert.deepEqual([replay.status, replay.body.code], [401, "unauthenticated"]);
  });

  describe("lock-out", () => {
    const retryMs = (error: ConnectError) => {
      const [info] = error.findDetails(RetryInfoSchema);
      const { seconds = 0n, nanos = 0 } = info?.retryDelay ?? {};
      return Number(seconds) * 1_000 + nanos / 1e6;
    };
    const refusal = (call: Promise<unknown>) =>
      call.then(
        () => assert.fail("answered"),
        (error) => ConnectError.from(error),
      );
    const clients = () => [auth, elsewhere];

    test("from the fifth wrong password on an account waits, longer each time, known or not, in all processes", async () => {
      const { tenantId, slug } = server.tenant;
      const known = await addPerson(server.database, tenantId, "locked@first.example");
      const accounts = [
        { email: known.email, tenantSlug: slug },
        { email: "nobody@first.example", tenantSlug: slug },
        { email: "nobody@nowhere.example", tenantSlug: "no-such-tenant" },
      ];
      const seen: string[] = [];
      for (const account of accounts) {
        for (let i = 0; i < 5; i++) {
          const wrong = clients()[i % 2]?.login({ ...account, password: `guess ${i}` });
          await assertFails(wrong ?? assert.fail(), Code.Unauthenticated, "INVALID_LOGIN");
        }
        const attempt = elsewhere.login({ ...account, password: known.password });
        const { metadata, retries, message } = await assertFails(
          attempt,
          Code.ResourceExhausted,
          "RATE_LIMITED",
        );
        assert.deepEqual({ ...metadata, retries }, { limit: "login_failures", retries: true });
        seen.push(message);
      }
      assert.equal(new Set(seen).size, 1);

      const account = accounts[0] ?? assert.fail();
      const me = await server.context.lockout.lockedUntil(slug, [known.email]);
      assert.ok((me.get(known.email)?.getTime() ?? 0) > Date.now());
      const unlock = async () => {
        // As if the time had passed.
        await server.database.superuser.query("update login_failures set locked_until = now()");
      };
      const delays: number[] = [];
      for (let i = 0; i < 3; i++) {
        await unlock();
        await assertFails(auth.login({ ...account, password: "no" }), Code.Unauthenticated, "INVALID_LOGIN");
        delays.push(retryMs(await refusal(auth.login({ ...account, password: "no" }))));
      }
      const [first = 0, second = 0, third = 0] = delays;
      assert.ok(first > 50_000 && second > first * 1.5 && third > second * 1.5, delays.join());
      await unlock();
      await auth.login({ ...account, password: known.password });
      const forgiven = auth.login({ ...account, password: "no" });
      await assertFails(forgiven, Code.Unauthenticated, "INVALID_LOGIN");
      await auth.login({ ...account, password: known.password });
    });

    test("a lock ends by itself", async () => {
      const { tenantId, slug } = server.tenant;
      const someone = await addPerson(server.database, tenantId, "patient@first.example");
      const account = { email: someone.email, tenantSlug: slug };
      for (let i = 0; i < 5; i++) {
        const guess = elsewhere.login({ ...account, password: "no" });
        await assertFails(guess, Code.Unauthenticated, "INVALID_LOGIN");
      }
      const until = (await server.context.lockout.lockedUntil(slug, [someone.email])).get(someone.email);
      // Undefined where the guess took longer than the lock.
      const left = (until?.getTime() ?? 0) - Date.now();
      assert.ok(left <= 1_000, `${left}`);
      await sleep(Math.max(left, 0));
      await auth.login({ ...account, password: someone.password });
    });

    test("40 guesses at once through two processes are five", async () => {
      const { tenantId, slug } = server.tenant;
      const someone = await addPerson(server.database, tenantId, "target@first.example");
      const guesses = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          refusal(
            (clients()[i % 2] ?? auth).login({
              email: someone.email,
              tenantSlug: slug,
              password: `guess ${i}`,
            }),
          ),
        ),
      );
      const checked = guesses.filter(({ code }) => code === Code.Unauthenticated).length;
      const refused = guesses.filter(({ code }) => code === Code.ResourceExhausted).length;
      // Were they to take longer than the first lock, a sixth could be right in time.
      assert.ok(checked >= 5 && checked <= 6, `${checked}`);
      assert.equal(checked + refused, 40);
    });

    test("the right password many times at once locks nobody out", async () => {
      const { tenantId, slug } = server.tenant;
      const someone = await addPerson(server.database, tenantId, "busy@first.example");
      const entries = Array.from({ length: 20 }, () => auth.login({ ...someone, tenantSlug: slug }));
      const ids = new Set((await Promise.all(entries)).map(({ refreshToken }) => refreshToken));
      assert.equal(ids.size, 20);
    });
  });
});
