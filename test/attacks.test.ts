/**
 * Attacks that must not succeed. Those on one part stand in that part's tests:
 * - auth-tokens: algorithm confusion, `none`, `kid` tricks, keys brought along, claims of others
 * - auth-identity: JWKS swap, tokens of other issuers, audiences and tenants, private addresses
 * - auth-sessions: theft of refresh tokens, lock-out under parallel guesses; auth-codes: brute force of codes
 * - auth-keys, auth-users, auth-tenants: keys, roles and platform rights beyond one's own, races for the last owner
 * - idempotency: request ids of other callers, methods and contents; rate-limits: spoofed client addresses
 * - listener-limits: oversized headers and messages, slow peers, floods; bad-input: what is no request
 * - tenancy-rpc: ids of another tenant in every method; tenancy: the same in SQL
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { type DescMethod, fromJson, type JsonObject, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { CodePurpose } from "../server/src/gen/pulsewire/auth/v1/session_pb.js";
import { Role, UpdateUserRequestSchema } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { contractServices } from "../server/src/services.ts";
import { assertFails } from "./helpers/errors.ts";
import { openSession, RawConnection, request } from "./helpers/listener.ts";
import { addPerson } from "./helpers/people.ts";
import { bearer, callJson, untilRefused, withKey } from "./helpers/platform.ts";
import { sampleRequest } from "./helpers/requests.ts";
import { grpcSession, serve, startTestServer, type TestServer, type TestTenant } from "./helpers/server.ts";
import { startMailServer } from "./helpers/smtp.ts";
import { stringFields } from "./helpers/string-fields.ts";
import { digests, lastEntry } from "./helpers/tenant-data.ts";
import { type Answer, callAny, openWires, type WireName, wireNames } from "./helpers/wires.ts";

const methods = contractServices.flatMap((service) => service.methods as readonly DescMethod[]);
const nobody = { headers: {} } as ReturnType<typeof bearer>;
const isMutation = ({ input }: DescMethod) => input.fields.some(({ name }) => name === "request_id");
const reasonOf = ({ error }: Answer) =>
  error && (error.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[error.code]);

describe("attacks", () => {
  const undo = new AsyncDisposableStack();
  let server: TestServer;
  let elsewhere: { url: string };
  let auth: Client<typeof AuthService>;
  let other: TestTenant;

  before(async () => {
    const mail = undo.use(await startMailServer());
    const settings = {
      SMTP_URL: mail.url,
      PULSEWIRE_MAIL_FROM: "pulsewire@sender.example",
      PULSEWIRE_MAX_MESSAGE_BYTES: String(1024 * 1024),
    };
    server = undo.use(await startTestServer(settings));
    elsewhere = undo.use(await serve(server.database, settings));
    auth = createClient(AuthService, undo.use(grpcSession(server.url)).transport);
    other = await server.register("other");
  });
  after(() => undo.disposeAsync());

  const owner = () => bearer(server.tenant.token);

  // --- Replay -------------------------------------------------------------------------------------------------------

  test("a revoked key and an ended session are refused at another server within a second, over all protocols", async () => {
    const { email, password, slug } = server.tenant;
    const { secret, apiKey } = await auth.createApiKey(
      { name: "stolen", scopes: [Scope.AUDIT_READ] },
      owner(),
    );
    const session = await auth.login({ email, password, tenantSlug: slug });
    const stolen = [
      {
        ...withKey(secret),
        reason: "INVALID_API_KEY",
        end: () => auth.revokeApiKey({ apiKeyId: apiKey?.id ?? "" }, owner()),
      },
      {
        ...bearer(session.accessToken),
        reason: "INVALID_TOKEN",
        end: () => auth.logout({}, bearer(session.accessToken)),
      },
    ];
    using wires = openWires(elsewhere.url);
    const { getMe, exportAuditEntries } = AuthService.method;
    for (const { headers, reason, end } of stolen) {
      const replay = (wire: WireName, method: DescMethod = getMe) =>
        callAny(wires.transports[wire], method, {}, headers).then(reasonOf);
      for (const wire of wireNames) assert.equal(await replay(wire), undefined, wire);
      await end();
      const there = createClient(AuthService, wires.transports.gRPC);
      const tookMs = await untilRefused(() => there.getMe({}, { headers }), reason);
      assert.ok(tookMs < 1_000, `${tookMs} ms`);
      for (const wire of wireNames) {
        assert.equal(await replay(wire), reason, wire);
        assert.equal(await replay(wire, exportAuditEntries), reason, wire);
      }
    }
  });

  // --- Enumeration of users -----------------------------------------------------------------------------------------

  /** Medians of calls of each kind, made in turns, in ms; all must fail or answer alike. */
  async function mediansOf(rounds: number, kinds: Record<string, (round: number) => Promise<unknown>>) {
    const times: Record<string, number[]> = {};
    const said = new Set<string>();
    for (let round = -2; round < rounds; round++) {
      for (const [kind, call] of Object.entries(kinds)) {
        const started = performance.now();
        const outcome = await call(round).then(
          () => "answered",
          (error: Error) => error.message,
        );
        // The first rounds warm up.
        if (round < 0) continue;
        times[kind] = [...(times[kind] ?? []), performance.now() - started];
        said.add(outcome);
      }
    }
    assert.equal(said.size, 1, [...said].join("; "));
    return Object.fromEntries(
      Object.entries(times).map(([kind, list]) => [kind, list.sort((a, b) => a - b)[list.length >> 1] ?? 0]),
    );
  }

  /** What is not done for one of them would make a far larger difference: a password hash takes tens of ms. */
  function assertAlike(medians: Record<string, number>): void {
    const values = Object.values(medians);
    const [least, most] = [Math.min(...values), Math.max(...values)];
    assert.ok(most < least * 1.5 || most - least < 3, JSON.stringify(medians));
  }

  /** People with one password hash, so many that no account is locked by `rounds` wrong guesses. */
  async function addMany(tenantId: string, prefix: string, number: number, state = "ACTIVE") {
    const { id } = await addPerson(server.database, tenantId, `${prefix}@crowd.example`);
    await server.database.superuser.query(
      `insert into users (tenant_id, id, email, display_name, password_hash, role, state)
       select tenant_id, gen_random_uuid(), $3 || '-' || n || '@crowd.example', '', password_hash, role, $4
       from users, generate_series(-2, $2) n where id = $1`,
      [id, number, prefix, state],
    );
  }

  test("the time and words of a failed login do not tell whether there is such a user, tenant or state", async (t) => {
    const rounds = 30;
    const { tenantId, slug } = server.tenant;
    await addMany(tenantId, "known", rounds);
    await addMany(tenantId, "disabled", rounds, "DISABLED");
    await addMany(other.tenantId, "theirs", rounds);
    const attempt = (prefix: string, tenantSlug: string) => (round: number) =>
      auth.login({ email: `${prefix}-${round}@crowd.example`, password: "a wrong guess", tenantSlug });
    const medians = await mediansOf(rounds, {
      "known user": attempt("known", slug),
      "disabled user": attempt("disabled", slug),
      "unknown user": attempt("nobody", slug),
      "user of another tenant": attempt("theirs", slug),
      "unknown tenant": attempt("known", "no-such-tenant"),
    });
    t.diagnostic(JSON.stringify(medians));
    assertAlike(medians);
    // Otherwise nothing was measured.
    assert.ok(Math.min(...Object.values(medians)) > 5, JSON.stringify(medians));
  });

  test("nor do those of codes and of recovery", async (t) => {
    const rounds = 40;
    await addMany(server.tenant.tenantId, "reader", rounds);
    const email = (prefix: string, round: number) => `${prefix}-${round}@crowd.example`;
    const ask = (prefix: string) => (round: number) =>
      auth.requestCode({ email: email(prefix, round), purpose: CodePurpose.PASSWORD_RECOVERY });
    const recover = (prefix: string, tenantSlug: string) => (round: number) =>
      auth.recoverPassword({
        email: email(prefix, round),
        tenantSlug,
        code: "000000",
        newPassword: "a password that is long enough",
      });
    const { slug } = server.tenant;
    const asked = await mediansOf(rounds, { "known user": ask("reader"), "unknown user": ask("stranger") });
    t.diagnostic(JSON.stringify(asked));
    assertAlike(asked);
    const recovered = await mediansOf(rounds, {
      "known user": recover("reader", slug),
      "unknown user": recover("stranger", slug),
      "unknown tenant": recover("reader", "no-such-tenant"),
    });
    t.diagnostic(JSON.stringify(recovered));
    assertAlike(recovered);
  });

  // --- Mass assignment ----------------------------------------------------------------------------------------------

  test("no mutation takes a field that it does not have, whatever it is called", async () => {
    const smuggled: JsonObject = {
      platformAdmin: true,
      platform_admin: true,
      mustChangePassword: false,
      emailVerified: true,
      passwordHash: "x",
      isAdmin: true,
      user: { role: "ROLE_OWNER" },
      ["__proto__"]: { role: "ROLE_OWNER" },
      constructor: { prototype: { role: "ROLE_OWNER" } },
    };
    for (const method of methods.filter(isMutation)) {
      const taken = new Set(method.input.fields.flatMap(({ name, jsonName }) => [name, jsonName]));
      for (const [name, value] of Object.entries(smuggled)) {
        if (taken.has(name)) continue;
        const body = { ...sampleRequest(method), [name]: value };
        const service = method.parent.typeName.replace("pulsewire.", "");
        const answer = await callJson(server.url, method.name, body, owner(), service);
        assert.equal(answer.status, 400, `${method.name} ${name}`);
        assert.match(answer.body.message, /unknown/, `${method.name} ${name}`);
      }
    }
  });

  test("a mask reaches nothing beyond what can be changed", async () => {
    const { tenantId, slug } = server.tenant;
    const person = await addPerson(server.database, tenantId, "masked@first.example");
    const before = await digests(
      server.database.superuser,
      tenantId,
      await lastEntry(server.database.superuser, tenantId),
    );
    const beyond = [
      "id",
      "tenant_id",
      "email",
      "platform_admin",
      "must_change_password",
      "email_verified",
      "password_hash",
      "user.role",
      "slug",
      "created_at",
      "*",
      "",
      "role.x",
      "__proto__",
    ];
    for (const path of beyond) {
      const updateMask = { paths: [path] };
      const user = auth.updateUser({ userId: person.id, role: Role.OWNER, updateMask }, owner());
      await assertFails(user, Code.InvalidArgument, "INVALID_FIELD").catch((error) =>
        assert.fail(`${path}: ${error}`),
      );
      const tenant = auth.updateTenant({ tenantId, name: slug, updateMask }, owner());
      await assertFails(tenant, Code.InvalidArgument, "INVALID_FIELD").catch((error) =>
        assert.fail(`${path}: ${error}`),
      );
    }
    for (const path of ["limits", "limits.users", "state"]) {
      const tenant = auth.updateTenant(
        { tenantId, limits: { users: 5n }, state: 2, updateMask: { paths: [path] } },
        owner(),
      );
      await assertFails(tenant, Code.PermissionDenied, "MISSING_SCOPE");
    }
    const now = await digests(
      server.database.superuser,
      tenantId,
      await lastEntry(server.database.superuser, tenantId),
    );
    assert.deepEqual({ ...now, audit_entries: "" }, { ...before, audit_entries: "" });
  });

  test("fields that the binary form smuggles in say nothing", async () => {
    const { tenantId } = server.tenant;
    const person = await addPerson(server.database, tenantId, "binary@first.example");
    const plain = toBinary(
      UpdateUserRequestSchema,
      fromJson(UpdateUserRequestSchema, { userId: person.id, displayName: "x", updateMask: "displayName" }),
    );
    // Numbers 8 to 14, as User has them: must_change_password, platform_admin, … each as true.
    const body = Buffer.concat([plain, ...[8, 9, 10, 11, 12, 13, 14].map((n) => Buffer.from([n << 3, 1]))]);
    const response = await fetch(`${server.url}/${AuthService.typeName}/UpdateUser`, {
      method: "POST",
      headers: { "content-type": "application/proto", ...owner().headers },
      body,
    });
    assert.equal(response.status, 200);
    const { users } = await auth.listUsers({ emailContains: person.email }, owner());
    assert.deepEqual(
      [users[0]?.displayName, users[0]?.platformAdmin, users[0]?.role],
      ["x", false, Role.MEMBER],
    );
  });

  test("neither scopes nor roles of tokens can be asked for at sign-in", async () => {
    const { email, password, slug } = server.tenant;
    for (const extra of [
      { role: "ROLE_OWNER" },
      { scopes: ["SCOPE_PLATFORM_ADMIN"] },
      { tenantId: other.tenantId },
    ]) {
      const body = { email, password, tenantSlug: slug, ...extra };
      assert.equal((await callJson(server.url, "Login", body, nobody)).status, 400);
    }
    const all = Object.values(Scope).filter((scope) => typeof scope === "number") as Scope[];
    const greedy = auth.createApiKey({ name: "greedy", scopes: all.filter((scope) => scope !== 0) }, owner());
    await assertFails(greedy, Code.InvalidArgument, "INVALID_FIELD");
  });

  // --- Headers ------------------------------------------------------------------------------------------------------

  test("no header makes a caller somebody else", async () => {
    const me = await auth.getMe({}, owner());
    const { tenantId, slug } = other;
    const spoofed: Record<string, string>[] = [
      { "x-pulsewire-tenant": slug },
      { "x-tenant-id": tenantId, "x-tenant": slug, "tenant-id": tenantId },
      { "x-user-id": randomUUID(), "x-user": other.email, "x-role": "OWNER", "x-scopes": "PLATFORM_ADMIN" },
      { "x-forwarded-user": other.email, "x-remote-user": other.email, "x-auth-request-email": other.email },
      { "x-forwarded-for": "127.0.0.1", forwarded: "for=127.0.0.1;host=admin", "x-real-ip": "127.0.0.1" },
      { "x-forwarded-host": slug, "x-original-url": "/admin", "x-rewrite-url": "/admin" },
      { "x-http-method-override": "DELETE", "x-method-override": "DELETE" },
      { cookie: `token=${other.token}; authorization=Bearer ${other.token}; x-api-key=${other.apiKey}` },
      { "proxy-authorization": `Bearer ${other.token}`, "x-authorization": `Bearer ${other.token}` },
      { "grpc-metadata-authorization": `Bearer ${other.token}`, "x-access-token": other.token },
    ];
    using wires = openWires(server.url);
    const { getMe, listTenants } = AuthService.method;
    for (const extra of spoofed) {
      for (const wire of wireNames) {
        const headers = { ...owner().headers, ...extra };
        const answer = await callAny(wires.transports[wire], getMe, {}, headers);
        assert.deepEqual(answer.messages, [{ ...me, expiresAt: me.expiresAt }], JSON.stringify(extra));
        assert.equal(
          reasonOf(await callAny(wires.transports[wire], getMe, {}, extra)),
          "MISSING_CREDENTIALS",
        );
        assert.equal(
          reasonOf(await callAny(wires.transports[wire], listTenants, {}, headers)),
          "MISSING_SCOPE",
        );
      }
    }
  });

  test("another host or authority is the same service to the same caller", async () => {
    using session = openSession(server.url);
    for (const authority of [other.slug, "localhost:1", "169.254.169.254", `${other.slug}.example:443`]) {
      const answer = await request(
        session,
        {
          ":method": "POST",
          ":path": `/${AuthService.typeName}/GetMe`,
          ":authority": authority,
          "content-type": "application/json",
          ...owner().headers,
        },
        "{}",
      );
      assert.equal(answer.status, 200, authority);
      assert.equal(JSON.parse(answer.body.toString()).tenant.slug, server.tenant.slug);
      assert.ok(!JSON.stringify(answer.headers).includes(authority), authority);
    }
  });

  /** A call as bytes, so that headers may stand in it as no client would send them. */
  async function callRaw(headers: string[], path = `/${AuthService.typeName}/GetMe`) {
    using raw = new RawConnection(server.port);
    const lines = [`POST ${path} HTTP/1.1`, "host: x", "content-type: application/json", "content-length: 2"];
    raw.socket.write([...lines, ...headers, "connection: close", "", "{}"].join("\r\n"));
    await raw.closed;
    return raw.received;
  }

  test("credentials that are given twice or in two ways are never mixed", async () => {
    const { tenant } = server;
    const bothWays = [
      [`x-api-key: ${tenant.apiKey}`, `authorization: Bearer ${other.token}`],
      [`authorization: Bearer ${other.token}`, `x-api-key: ${tenant.apiKey}`],
    ];
    for (const headers of bothWays) {
      const answer = await callRaw(headers);
      assert.match(answer, /^HTTP\/1\.1 200 /);
      const me = JSON.parse(answer.slice(answer.indexOf("{"), answer.lastIndexOf("}") + 1));
      assert.equal(me.tenant.slug, tenant.slug);
      assert.ok(me.apiKey && !me.user);
    }
    const wrong = [
      // The key counts where there is one, so a wrong one is not made good by a token.
      ["x-api-key: evp_wrong", `authorization: Bearer ${tenant.token}`],
      ["x-api-key:", `authorization: Bearer ${tenant.token}`],
      [`x-api-key: ${tenant.apiKey}`, `x-api-key: ${other.apiKey}`],
      [`x-api-key: ${other.apiKey}, ${tenant.apiKey}`],
      ["authorization: Bearer wrong", `authorization: Bearer ${tenant.token}`],
      [`authorization: Bearer wrong, Bearer ${tenant.token}`],
      [`authorization: Basic ${Buffer.from(`${tenant.email}:${tenant.password}`).toString("base64")}`],
    ];
    for (const headers of wrong) assert.match(await callRaw(headers), /^HTTP\/1\.1 401 /, headers.join());
    // Of two that are both right none is preferred in part: the caller is one of the two, whole.
    const twice = await callRaw([
      `authorization: Bearer ${tenant.token}`,
      `authorization: Bearer ${other.token}`,
    ]);
    if (!/^HTTP\/1\.1 401 /.test(twice)) {
      const slugs = [tenant.slug, other.slug].filter((slug) => twice.includes(`"slug":"${slug}"`));
      assert.equal(slugs.length, 1);
    }
  });

  test("a request id is no way into headers or the log", async () => {
    const ids = [
      "a\r\nset-cookie: x=1",
      "a\nb",
      "a b",
      "<script>",
      "x".repeat(129),
      "x".repeat(8_000),
      "é",
      "\u0000",
      "",
    ];
    for (const id of ids) {
      const raw = await callRaw([`x-request-id: ${id}`, `x-api-key: ${server.tenant.apiKey}`]);
      const [head = ""] = raw.split("\r\n\r\n");
      if (!/^HTTP\/1\.1 200 /.test(head)) {
        assert.match(head, /^HTTP\/1\.1 4\d\d /, JSON.stringify(id));
        continue;
      }
      assert.doesNotMatch(head, /set-cookie|<script>|x{129}/i, JSON.stringify(id));
      const given = /^x-request-id: (.*)$/im.exec(head)?.[1]?.trim() ?? "";
      assert.match(given, /^[\w.:+/=-]{1,128}$/, JSON.stringify(id));
    }
  });

  test("credentials count in their headers only", async () => {
    const { apiKey, token } = server.tenant;
    const getMe = `/${AuthService.typeName}/GetMe`;
    for (const name of [
      "x-api-key",
      "X-API-Key",
      "api_key",
      "apikey",
      "key",
      "access_token",
      "token",
      "authorization",
    ]) {
      for (const value of [apiKey, token, `Bearer ${token}`]) {
        const query = new URLSearchParams({ [name]: value });
        assert.match(await callRaw([], `${getMe}?${query}`), /^HTTP\/1\.1 401 /, name);
        const inGet = new URLSearchParams({ encoding: "json", message: "{}", connect: "v1", [name]: value });
        const response = await fetch(`${server.url}${getMe}?${inGet}`);
        assert.equal(response.status, 401, name);
        const body = await response.text();
        assert.match(body, /missing|credentials|x-api-key/i);
        assert.ok(!body.includes(value));
      }
    }
  });

  // --- Injection ----------------------------------------------------------------------------------------------------

  const injections = [
    "'; drop table users; --",
    `' or '1'='1`,
    `") or true; select pg_sleep(10); --`,
    "\\'; --",
    "$1",
    "%",
    "_%\\",
    "../../etc/passwd",
    '{"$gt":""}',
    '"}],"role":"OWNER","x":[{"',
    "\u0000",
    "\ud7ff\u202e\ufeff",
    "{{7*7}}#{7*7}<%= 7 %>",
    "<script>alert(1)</script>",
    "\r\nset-cookie: x=1",
    "a@b.example\r\nbcc: everyone@x.example",
    "__proto__",
    "x".repeat(70_000),
  ];

  /** Texts as names of labels, of claims and inside of what has no schema. */
  const keyed: [string, (text: string) => JsonObject][] = [
    ["CreateStore", (text) => ({ name: randomUUID(), labels: { [text]: text } })],
    ["ListSeries", (text) => ({ labels: { [text]: text } })],
    ["QuerySamples", (text) => ({ labels: { room: text }, groupBy: [text] })],
    [
      "IngestEvent",
      (text) => ({ event: { eventType: "e", payload: { [text]: [text] }, metrics: { [text]: 1 } } }),
    ],
    ["UpdateTenant", (text) => ({ tenantId: server.tenant.tenantId, name: text, updateMask: "name" })],
  ];

  test("no text in any field of any method breaks out of it", async () => {
    const { superuser } = server.database;
    const last = await lastEntry(superuser, other.tenantId);
    const before = await digests(superuser, other.tenantId, last);
    using wires = openWires(server.url);
    // Other people's sessions and keys do not end with those of the attacker.
    const { headers } = withKey(server.tenant.apiKey);
    const inside = /syntax error|postgres|sqlstate|relation "|\n\s+at /i;
    const broken =
      /^(INTERNAL|DEADLINE_EXCEEDED|DEPENDENCY_UNAVAILABLE|Unknown|Internal|DataLoss|DeadlineExceeded|Canceled|Unavailable)$/;
    let calls = 0;
    const tryText = async (wire: WireName, method: DescMethod, what: string, body: JsonObject) => {
      const answer = await callAny(wires.transports[wire], method, body, headers);
      const seen = `${method.name} ${what}: ${answer.error?.message}`;
      assert.doesNotMatch(reasonOf(answer) ?? "answered", broken, seen);
      assert.doesNotMatch(answer.error?.rawMessage ?? "", inside, seen);
      calls++;
      return reasonOf(answer) !== "NOT_IMPLEMENTED";
    };
    for (const method of methods) {
      const isBuilt = await tryText("gRPC", method, "as it is", sampleRequest(method));
      for (const field of isBuilt ? stringFields(method.input) : []) {
        await Promise.all(
          injections.map((text, index) => {
            const wire = index % 2 === 0 ? "gRPC" : "Connect JSON";
            const what = `${field.path} ${JSON.stringify(text).slice(0, 60)}`;
            return tryText(wire, method, what, field.set(sampleRequest(method), text));
          }),
        );
      }
    }
    for (const [name, request] of keyed) {
      const method = methods.find((one) => one.name === name) ?? assert.fail(name);
      await Promise.all(injections.map((text) => tryText("Connect JSON", method, text, request(text))));
    }
    assert.ok(calls > 1_000, String(calls));
    assert.deepEqual(await digests(superuser, other.tenantId, last), before);
  });

  // --- Bombs --------------------------------------------------------------------------------------------------------

  test("a message that unpacks to 256 MiB costs no more memory than a message may have", async () => {
    const blank = Buffer.alloc(256 * 1024 * 1024, " ");
    const bombs = {
      gzip: gzipSync(blank, { level: 9 }),
      br: brotliCompressSync(blank, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
    };
    using session = openSession(server.url);
    const path = `/${AuthService.typeName}/Login`;
    const before = process.memoryUsage().arrayBuffers + process.memoryUsage().heapUsed;
    let most = 0;
    const watch = setInterval(() => {
      const { arrayBuffers, heapUsed } = process.memoryUsage();
      most = Math.max(most, arrayBuffers + heapUsed - before);
    }, 1);
    for (const [encoding, bomb] of Object.entries(bombs)) {
      const json = { "content-type": "application/json", "content-encoding": encoding };
      const plain = await fetch(`${server.url}${path}`, { method: "POST", headers: json, body: bomb });
      assert.deepEqual([plain.status, (await plain.json()).code], [429, "resource_exhausted"], encoding);
      const grpc = { "content-type": "application/grpc+json", "grpc-encoding": encoding, te: "trailers" };
      const answer = await request(
        session,
        { ":method": "POST", ":path": path, ...grpc },
        encodeEnvelope(1, bomb),
      );
      const status = answer.trailers["grpc-status"] ?? answer.headers["grpc-status"];
      assert.equal(Number(status), Code.ResourceExhausted, encoding);
    }
    clearInterval(watch);
    assert.ok(most < 128 * 1024 * 1024, `${most} bytes more`);
  });
});
