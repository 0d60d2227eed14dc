import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { envToConfig } from "../server/src/config/config.ts";
import { createContext } from "../server/src/context.ts";
import { RetryInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { CodePurpose } from "../server/src/gen/pulsewire/auth/v1/session_pb.js";
import { Role, UserState } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { createServer } from "../server/src/server.ts";
import { createTestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { addPerson } from "./helpers/people.ts";
import { grpcSession, serve, settingsFor, startTestServer, type TestServer } from "./helpers/server.ts";
import { startMailServer, type TestMailServer } from "./helpers/smtp.ts";

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
const { LOGIN, PASSWORD_RECOVERY } = CodePurpose;
const from = "Pulsewire <pulsewire@example.org>";

/** A code that is not this one. */
const wrong = (code: string, by = 1) => String((Number(code) + by) % 1_000_000).padStart(6, "0");

describe("e-mail codes", () => {
  let mail: TestMailServer;
  let server: TestServer;
  let closed: Awaited<ReturnType<typeof serve>>;
  let sessions: ReturnType<typeof grpcSession>[];
  let auth: Client<typeof AuthService>;
  /** The same installation, where registration is closed. */
  let invitedOnly: Client<typeof AuthService>;

  before(async () => {
    mail = await startMailServer();
    const settings = {
      PULSEWIRE_SMTP_URL: mail.url,
      PULSEWIRE_MAIL_FROM: from,
      PULSEWIRE_LOGIN_LOCK: "60",
    };
    server = await startTestServer(settings);
    closed = await serve(server.database, { ...settings, PULSEWIRE_REGISTRATION: "closed" });
    sessions = [grpcSession(server.url), grpcSession(closed.url)];
    [auth, invitedOnly] = sessions.map(({ transport }) => createClient(AuthService, transport)) as [
      typeof auth,
      typeof auth,
    ];
  });
  after(async () => {
    for (const session of sessions) session[Symbol.dispose]();
    await closed[Symbol.asyncDispose]();
    await server.stop();
    await mail.stop();
  });

  /** As if the pause between two codes had passed. */
  const waitForResend = () =>
    server.database.superuser.query(
      "update email_code_requests set requested_at = array(select t - interval '31 s' from unnest(requested_at) t)",
    );
  async function codeFor(email: string, purpose = LOGIN): Promise<string> {
    await waitForResend();
    await auth.requestCode({ email, purpose });
    return await mail.nextCode(email);
  }
  const refused = (call: Promise<unknown>) => assertFails(call, Code.Unauthenticated, "INVALID_CODE");

  test("a new address gets a tenant of its own, with a code that is good once", async () => {
    const before = Date.now();
    const { expiresAt, resendAt } = await auth.requestCode({ email: "Jane.Doe@New.example" });
    const life = timestampMs(expiresAt ?? assert.fail()) - before;
    assert.ok(life > 590_000 && life < 610_000, `${life}`);
    const pause = timestampMs(resendAt ?? assert.fail()) - before;
    assert.ok(pause >= 30_000 && pause < 35_000, `${pause}`);

    const code = await mail.nextCode("jane.doe@new.example");
    const message = mail.received.at(-1);
    assert.equal(message?.from, "pulsewire@example.org");
    assert.match(message?.source ?? "", new RegExp(`^Subject: ${code} is your code`, "m"));
    const entered = await auth.verifyCode({ email: "JANE.DOE@new.example", code });
    assert.equal(entered.tenantCreated, true);
    assert.match(entered.tenant?.slug ?? "", /^jane-doe-[a-z0-9]{8}$/);
    const { user } = entered;
    assert.deepEqual(
      [user?.email, user?.role, user?.emailVerified, user?.mustChangePassword, user?.state],
      ["jane.doe@new.example", Role.OWNER, true, false, UserState.ACTIVE],
    );
    const me = await auth.getMe({}, bearer(entered.token));
    assert.equal(me.tenant?.id, entered.tenant?.id);
    await auth.refreshToken({ refreshToken: entered.refreshToken });
    await refused(auth.verifyCode({ email: "jane.doe@new.example", code }));

    const again = await auth.verifyCode({
      email: "jane.doe@new.example",
      code: await codeFor("jane.doe@new.example"),
    });
    assert.deepEqual([again.tenantCreated, again.tenant?.id], [false, entered.tenant?.id]);
    // Without a password one sets the first with an empty current one.
    await auth.changePassword({ newPassword: "the first of mine" }, bearer(again.token));
  });

  test("a code is good for its purpose and address only, and replaced by the next", async () => {
    const email = "purpose@new.example";
    const first = await codeFor(email);
    const recover = { email, tenantSlug: server.tenant.slug, newPassword: "some other password" };
    await refused(auth.recoverPassword({ ...recover, code: first }));
    await refused(auth.verifyCode({ email: "other@new.example", code: first }));
    const second = await codeFor(email);
    if (first !== second) await refused(auth.verifyCode({ email, code: first }));
    await auth.verifyCode({ email, code: second });
  });

  test("a code that has expired is of no use", async () => {
    const email = "late@new.example";
    const code = await codeFor(email);
    await server.database.superuser.query("update email_codes set expires_at = now()");
    await refused(auth.verifyCode({ email, code }));
  });

  test("after five wrong attempts the right code is of no use", async () => {
    const email = "attempts@new.example";
    const code = await codeFor(email);
    for (let i = 1; i <= 5; i++) await refused(auth.verifyCode({ email, code: wrong(code, i) }));
    await refused(auth.verifyCode({ email, code }));
    const next = await codeFor(email);
    for (let i = 1; i <= 4; i++) await refused(auth.verifyCode({ email, code: wrong(next, i) }));
    await auth.verifyCode({ email, code: next });
  });

  test("200 guesses at once over ten connections are five", async () => {
    const email = "brute@new.example";
    const code = await codeFor(email);
    const connections = Array.from({ length: 10 }, (_, i) => grpcSession(i % 2 ? server.url : closed.url));
    const outcomes = await Promise.all(
      Array.from({ length: 200 }, (_, i) => {
        const client = createClient(AuthService, connections[i % 10]?.transport ?? assert.fail());
        return client.verifyCode({ email, code: wrong(code, i + 1) }).then(
          () => "entered",
          (error) => Code[ConnectError.from(error).code],
        );
      }),
    );
    for (const connection of connections) connection[Symbol.dispose]();
    assert.deepEqual([...new Set(outcomes)], ["Unauthenticated"]);
    const { rows } = await server.database.superuser.query("select max(attempts) as most from email_codes");
    assert.equal(rows[0].most, 5);
    await refused(auth.verifyCode({ email, code }));
  });

  test("the right code, used four times at once, signs in once", async () => {
    const email = "once@new.example";
    const code = await codeFor(email);
    const attempts = await Promise.allSettled(
      Array.from({ length: 4 }, () => auth.verifyCode({ email, code })),
    );
    assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
    const { rows } = await server.database.superuser.query("select from users where email = $1", [email]);
    assert.equal(rows.length, 1);
  });

  test("one code in 30 seconds, ten an hour, whatever they are for", async () => {
    const email = "often@new.example";
    const retryMs = async (purpose: CodePurpose) => {
      const error = await auth.requestCode({ email, purpose }).then(
        () => assert.fail("answered"),
        (thrown) => ConnectError.from(thrown),
      );
      await assertFails(Promise.reject(error), Code.ResourceExhausted, "RATE_LIMITED");
      return Number(error.findDetails(RetryInfoSchema)[0]?.retryDelay?.seconds ?? 0n) * 1_000;
    };
    await auth.requestCode({ email });
    for (const purpose of [LOGIN, PASSWORD_RECOVERY]) {
      const pause = await retryMs(purpose);
      assert.ok(pause > 20_000 && pause <= 30_000, `${pause}`);
    }
    for (let i = 0; i < 9; i++) {
      await waitForResend();
      await auth.requestCode({ email });
    }
    await waitForResend();
    const pause = await retryMs(LOGIN);
    // The first of the ten was, as the test made it, ten times 31 seconds ago.
    assert.ok(pause > 3_200_000 && pause < 3_600_000, `${pause}`);
    await server.database.superuser.query(
      "update email_code_requests set requested_at = array(select t - interval '1 hour' from unnest(requested_at) t)",
    );
    await auth.requestCode({ email });
  });

  test("many requests at once are one", async () => {
    const requests = Array.from({ length: 10 }, () => auth.requestCode({ email: "burst@new.example" }));
    const settled = await Promise.allSettled(requests);
    assert.equal(settled.filter(({ status }) => status === "fulfilled").length, 1);
  });

  test("an unknown address is answered like a known one, and gets nothing", async () => {
    const { tenantId } = server.tenant;
    const known = await addPerson(server.database, tenantId, "known@first.example");
    const gone = await addPerson(server.database, tenantId, "gone@first.example", { state: "DISABLED" });
    for (const purpose of [LOGIN, PASSWORD_RECOVERY]) {
      await waitForResend();
      const answers = [];
      for (const email of ["nobody@first.example", gone.email, known.email]) {
        const { expiresAt, resendAt } = await invitedOnly.requestCode({ email, purpose });
        answers.push([expiresAt !== undefined, resendAt !== undefined]);
      }
      assert.deepEqual(answers, [
        [true, true],
        [true, true],
        [true, true],
      ]);
      await mail.nextCode(known.email);
      const strangers = mail.received.filter(({ to }) => !to.includes(known.email));
      assert.ok(!strangers.some(({ to }) => to.includes("nobody@first.example") || to.includes(gone.email)));
      const { rows } = await server.database.superuser.query("select from email_codes");
      assert.ok(rows.length >= 3, "a row is written for each of them");
    }
  });

  test("nobody is drawn into a tenant that a stranger registered with their address", async () => {
    const email = "owner@trap.example";
    await auth.registerTenant({ name: "Trap", slug: "trap", contactEmail: email });
    const entered = await auth.verifyCode({ email, code: await codeFor(email) });
    assert.equal(entered.tenantCreated, true);
    assert.notEqual(entered.tenant?.slug, "trap");
    // Whoever names it may enter: the address is theirs.
    const named = await auth.verifyCode({ email, code: await codeFor(email), tenantSlug: "trap" });
    assert.deepEqual([named.tenant?.slug, named.user?.emailVerified], ["trap", true]);
    // Entered with a code, nothing is restricted by a temporary password that others may know.
    await auth.createApiKey({ name: "mine" }, bearer(named.token));
  });

  test("without a tenant's name it is the one used last among those where the address is verified", async () => {
    const email = "many@people.example";
    const other = await server.register("many-other");
    const mine = await addPerson(server.database, server.tenant.tenantId, email, { verified: true });
    const theirs = await addPerson(server.database, other.tenantId, email, { verified: true });
    const usedAt = (id: string, when: string) =>
      server.database.superuser.query(`update users set last_login_at = ${when} where id = $1`, [id]);
    await usedAt(mine.id, "now() - interval '1 day'");
    await usedAt(theirs.id, "now() - interval '1 hour'");
    const enter = async () => auth.verifyCode({ email, code: await codeFor(email) });
    assert.equal((await enter()).user?.id, theirs.id);
    await usedAt(mine.id, "now() + interval '1 minute'");
    assert.equal((await enter()).user?.id, mine.id);
    await server.database.superuser.query("update users set state = 'DISABLED' where id = $1", [mine.id]);
    assert.equal((await enter()).user?.id, theirs.id);
    const code = await codeFor(email);
    await refused(auth.verifyCode({ email, code, tenantSlug: server.tenant.slug }));
    await refused(auth.verifyCode({ email, code, tenantSlug: "no-such-tenant" }));
    await auth.verifyCode({ email, code, tenantSlug: "many-other" });
  });

  test("where registration is closed, an invitation is accepted with a code", async () => {
    const email = "invited@people.example";
    const { tenantId, slug } = server.tenant;
    const state = "INVITED";
    const invited = await addPerson(server.database, tenantId, email, { state });
    await waitForResend();
    await invitedOnly.requestCode({ email });
    const entered = await invitedOnly.verifyCode({ email, code: await mail.nextCode(email) });
    const { user, tenant, tenantCreated } = entered;
    assert.deepEqual(
      [user?.id, user?.state, user?.emailVerified, tenant?.slug, tenantCreated],
      [invited.id, UserState.ACTIVE, true, slug, false],
    );
  });

  test("a suspended tenant says so after the right code only", async () => {
    const suspended = await server.register("suspended");
    const { superuser } = server.database;
    await superuser.query("update tenants set state = 'SUSPENDED' where slug = 'suspended'");
    const { email } = suspended;
    const code = await codeFor(email);
    await refused(auth.verifyCode({ email, code: wrong(code), tenantSlug: "suspended" }));
    const right = auth.verifyCode({ email, code, tenantSlug: "suspended" });
    await assertFails(right, Code.PermissionDenied, "TENANT_SUSPENDED");
  });

  test("a forgotten password is set anew, lifts the lock and ends the sessions", async () => {
    const { tenantId, slug } = server.tenant;
    const who = await addPerson(server.database, tenantId, "forgot@first.example");
    const login = (password: string) => auth.login({ email: who.email, password, tenantSlug: slug });
    const { accessToken } = await login(who.password);
    for (let i = 0; i < 5; i++) await login("no").catch(() => {});
    await assertFails(login(who.password), Code.ResourceExhausted, "RATE_LIMITED");

    const code = await codeFor(who.email, PASSWORD_RECOVERY);
    const request = { email: who.email, tenantSlug: slug, code, newPassword: "remembered from now on" };
    for (let i = 0; i < 6; i++) {
      const common = auth.recoverPassword({ ...request, newPassword: "Password1234!" });
      const { fields } = await assertFails(common, Code.InvalidArgument, "INVALID_FIELD");
      assert.deepEqual(fields, ["new_password"]);
    }
    await refused(auth.verifyCode({ email: who.email, code }));
    await refused(auth.recoverPassword({ ...request, tenantSlug: "trap" }));
    const { sessionsEnded } = await auth.recoverPassword(request);
    assert.equal(sessionsEnded, 1);
    await assertFails(auth.getMe({}, bearer(accessToken)), Code.Unauthenticated, "INVALID_TOKEN");
    await refused(auth.recoverPassword(request));
    const entered = await login(request.newPassword);
    assert.equal(entered.user?.emailVerified, true);
  });

  test("codes and addresses are stored as keyed hashes only", async () => {
    const email = "stored@new.example";
    const code = await codeFor(email);
    const { rows } = await server.database.superuser.query(
      "select c::text as row from email_codes c union all select r::text from email_code_requests r",
    );
    assert.ok(rows.length > 0);
    for (const { row } of rows) {
      assert.ok(!row.includes(email) && !row.includes(Buffer.from(email).toString("hex")));
      // Among hexadecimal digits six may stand in a row by chance.
      assert.ok(!row.split(/[(),]/).includes(code));
    }
  });

  test("a code as JSON over HTTP/1.1", async () => {
    const email = "json@new.example";
    const call = async (method: string, body: unknown) => {
      const res = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/${method}`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      return { status: res.status, body: await res.json(), retryAfter: res.headers.get("retry-after") };
    };
    assert.equal((await call("RequestCode", { email, purpose: "CODE_PURPOSE_LOGIN" })).status, 200);
    const soon = await call("RequestCode", { email });
    assert.equal(soon.status, 429);
    assert.ok(Number(soon.retryAfter) > 20 && Number(soon.retryAfter) <= 30);
    const entered = await call("VerifyCode", { email, code: await mail.nextCode(email) });
    assert.equal(entered.status, 200);
    assert.equal((entered.body as { tenantCreated: boolean }).tenantCreated, true);
    const malformed = await call("VerifyCode", { email, code: "12345" });
    assert.equal(malformed.status, 400);
  });
});

test("an answer does not wait for a mail server that is down, and the code comes when it is back", async () => {
  const first = await startMailServer();
  const { port } = first;
  await first.stop();
  const settings = { SMTP_URL: `smtp://127.0.0.1:${port}`, PULSEWIRE_MAIL_FROM: from };
  await using server = await startTestServer(settings);
  using session = grpcSession(server.url);
  const auth = createClient(AuthService, session.transport);
  const started = performance.now();
  await auth.requestCode({ email: "patient@new.example" });
  assert.ok(performance.now() - started < 900, "the answer waited for the mail");
  await using again = await startMailServer(port);
  const code = await again.nextCode("patient@new.example");
  await auth.verifyCode({ email: "patient@new.example", code });
});

test("without a mail server no code is made, and the error names the setting", async () => {
  await using server = await startTestServer();
  using session = grpcSession(server.url);
  const auth = createClient(AuthService, session.transport);
  const call = auth.requestCode({ email: "a@b.example" });
  const { metadata } = await assertFails(call, Code.FailedPrecondition, "NOT_CONFIGURED");
  assert.equal(metadata.setting, "PULSEWIRE_SMTP_URL");
});

test("in development the log shows the code", async () => {
  await using database = await createTestDatabase();
  const lines: string[] = [];
  const logger = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  const config = { ...envToConfig(settingsFor(database)), development: true };
  const context = await createContext(config, logger);
  const server = createServer(context);
  try {
    const { url } = await server.start();
    using session = grpcSession(url);
    const auth = createClient(AuthService, session.transport);
    await auth.requestCode({ email: "dev@new.example" });
    const shown = lines.map((line) => JSON.parse(line)).find(({ email }) => email === "dev@new.example");
    await auth.verifyCode({ email: "dev@new.example", code: shown?.code ?? assert.fail() });
  } finally {
    await server.drain();
  }
});

test("the settings of mail are checked at the start, and never shown", () => {
  assert.throws(
    () => envToConfig({ SMTP_URL: "http://user:secret@host" }),
    /^ConfigError: SMTP_URL(?!.*secret)/,
  );
  assert.throws(() => envToConfig({ PULSEWIRE_SMTP_URL: "smtp://mail" }), /PULSEWIRE_MAIL_FROM/);
  const config = envToConfig({ SMTP_URL: "smtp://mail", PULSEWIRE_MAIL_FROM: from });
  assert.deepEqual(config.mail, { smtpUrl: "smtp://mail", from });
});
