import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, createClient } from "@connectrpc/connect";
import {
  AuditActorType,
  type AuditEntry,
  AuditOutcome,
} from "../server/src/gen/pulsewire/auth/v1/audit_pb.js";
import type { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Role } from "../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { ErrorReason } from "../server/src/gen/pulsewire/common/v1/error_reason_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { bearer, callJson, startPlatform, type TestPlatform, withKey } from "./helpers/platform.ts";
import { grpcSession, type TestTenant } from "./helpers/server.ts";

const service = "pulsewire.auth.v1.AuthService";

describe("audit log", () => {
  let platform: TestPlatform;
  let auth: Client<typeof AuthService>;
  let session: ReturnType<typeof grpcSession>;
  let slugs = 0;

  before(async () => {
    platform = await startPlatform();
    ({ auth } = platform);
    session = grpcSession(platform.url, { "user-agent": "audit-test/1" });
  });
  after(async () => {
    session[Symbol.dispose]();
    await platform[Symbol.asyncDispose]();
  });

  const newTenant = () => platform.base.register(`audited-${++slugs}`);
  /** All entries, oldest first. */
  const entriesOf = async ({ token }: TestTenant, filter: object = {}) => {
    const { auditEntries } = await auth.listAuditEntries(
      { filter, pageSize: 1_000, oldestFirst: true },
      bearer(token),
    );
    return auditEntries;
  };
  const last = async (tenant: TestTenant, filter: object = {}): Promise<AuditEntry> =>
    (await entriesOf(tenant, filter)).at(-1) ?? assert.fail("no entry");
  /** Failed sign-ins are entered without keeping the answer waiting. */
  const eventually = async (tenant: TestTenant, filter: object, count: number) => {
    for (let waited = 0; waited < 5_000; waited += 20) {
      const entries = await entriesOf(tenant, filter);
      if (entries.length >= count) return entries;
      await sleep(20);
    }
    return assert.fail(`fewer than ${count} entries`);
  };
  const verify = ({ token }: TestTenant, request: object = {}) => auth.verifyAuditLog(request, bearer(token));

  test("says who did what, from where, with what and how it ended", async () => {
    const tenant = await newTenant();
    const call = {
      headers: {
        ...bearer(tenant.token).headers,
        "x-request-id": "call-17",
        "user-agent": `test ${"x".repeat(600)}`,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
      },
    };
    const { status, body } = await callJson(
      platform.url,
      "InviteUser",
      { email: "new@audited.example", role: "ROLE_MEMBER", displayName: "N" },
      call,
    );
    assert.equal(status, 200);
    const entry = await last(tenant);
    assert.deepEqual(
      [entry.actor?.type, entry.actor?.email, entry.actor?.apiKeyId, entry.actor?.platformAdmin],
      [AuditActorType.USER, tenant.email, "", false],
    );
    assert.match(entry.actor?.userId ?? "", /^[0-9a-f-]{36}$/);
    assert.match(entry.actor?.sessionId ?? "", /^[0-9a-f-]{36}$/);
    assert.deepEqual(
      [entry.method, entry.resourceType, entry.resourceId, entry.outcome, entry.errorReason],
      [`${service}/InviteUser`, "user", body.user.id, AuditOutcome.SUCCEEDED, ErrorReason.UNSPECIFIED],
    );
    assert.deepEqual(
      [entry.address, entry.callId, entry.traceId, entry.userAgent.length],
      ["127.0.0.1", "call-17", "4bf92f3577b34da6a3ce929d0e0e4736", 500],
    );
    assert.deepEqual(entry.details, {
      email: { new: "new@audited.example" },
      role: { new: "ROLE_MEMBER" },
      display_name: { new: "N" },
    });
    assert.ok(Math.abs(timestampMs(entry.occurredAt ?? timestampFromMs(0)) - Date.now()) < 5_000);

    const { apiKey } = await auth.createApiKey(
      { name: "robot", scopes: [Scope.TENANT_READ] },
      bearer(tenant.token),
    );
    await auth.revokeApiKey({ apiKeyId: apiKey?.id ?? "" }, withKey(tenant.apiKey));
    const revoked = await last(tenant);
    assert.deepEqual(
      [revoked.actor?.type, revoked.actor?.apiKeyName, revoked.actor?.userId, revoked.resourceId],
      [AuditActorType.API_KEY, "tests", "", apiKey?.id],
    );
  });

  test("begins with the registration, and holds old and new values", async () => {
    const tenant = await newTenant();
    const { tenantId } = tenant;
    const owner = bearer(tenant.token);
    const methods = (await entriesOf(tenant)).map(({ method }) => method.split("/")[1]);
    assert.deepEqual(methods, ["RegisterTenant", "Login", "ChangePassword", "CreateApiKey"]);
    const [first] = await entriesOf(tenant);
    assert.deepEqual([first?.actor?.type, first?.resourceId], [AuditActorType.ANONYMOUS, tenantId]);
    await auth.updateTenant({ tenantId, name: "New name", updateMask: { paths: ["name"] } }, owner);
    const { details } = await last(tenant);
    assert.deepEqual(details, { name: { old: tenant.slug, new: "New name" } });
  });

  test("a platform admin who acts in a tenant stands in the tenant's log", async () => {
    const tenant = await newTenant();
    const limits = { users: 9n };
    await auth.updateTenant(
      { tenantId: tenant.tenantId, limits, updateMask: { paths: ["limits"] } },
      platform.operator,
    );
    const entry = await last(tenant);
    assert.deepEqual(
      [entry.actor?.email, entry.actor?.platformAdmin, entry.details],
      [platform.base.tenant.email, true, { limits: { old: {}, new: { users: "9" } } }],
    );
  });

  test("holds sign-ins, those that failed with the address that was tried", async () => {
    const tenant = await newTenant();
    const { email, password, slug } = tenant;
    await auth.login({ email, password, tenantSlug: slug });
    const ok = await last(tenant);
    assert.deepEqual(
      [ok.method, ok.outcome, ok.actor?.type, ok.actor?.email, ok.resourceType],
      [`${service}/Login`, AuditOutcome.SUCCEEDED, AuditActorType.USER, email, "session"],
    );
    for (const tried of [email, "nobody@x.example"]) {
      await auth.login({ email: tried, password: "wrong wrong wrong", tenantSlug: slug }).catch(() => {});
    }
    const failed = await eventually(tenant, { outcome: AuditOutcome.DENIED }, 2);
    assert.deepEqual(failed.map(({ actor }) => actor?.email).sort(), ["nobody@x.example", email].sort());
    for (const { actor, errorReason } of failed) {
      assert.deepEqual(
        [actor?.type, actor?.userId, errorReason],
        [AuditActorType.ANONYMOUS, "", ErrorReason.INVALID_LOGIN],
      );
    }
    const count = () =>
      platform.base.database.superuser.query("select count(*)::int as n from audit_entries");
    const before = (await count()).rows[0].n;
    await auth.login({ email, password, tenantSlug: "no-such-tenant" }).catch(() => {});
    await sleep(50);
    assert.equal((await count()).rows[0].n, before);
  });

  test("holds refused and failed calls with credentials, but not the same refusal again and again", async () => {
    const tenant = await newTenant();
    const { secret, apiKey } = await auth.createApiKey(
      { name: "reader", scopes: [Scope.EVENTS_READ] },
      bearer(tenant.token),
    );
    const ingestion = createClient(IngestionService, session.transport);
    const refused = () => ingestion.ingestEvents({ events: [{ eventType: "x" }] }, withKey(secret));
    for (let n = 0; n < 5; n++) await assertFails(refused(), Code.PermissionDenied, "MISSING_SCOPE");
    await assertFails(
      auth.createApiKey({ name: "more" }, withKey(secret)),
      Code.PermissionDenied,
      "MISSING_SCOPE",
    );
    await assertFails(
      auth.revokeApiKey({ apiKeyId: randomUUID() }, bearer(tenant.token)),
      Code.NotFound,
      "NOT_FOUND",
    );
    await assertFails(
      auth.inviteUser({ email: "no" }, bearer(tenant.token)),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    const entries = (await entriesOf(tenant)).slice(-4);
    assert.deepEqual(
      entries.map(({ method, outcome, errorReason }) => [method.split("/")[1], outcome, errorReason]),
      [
        ["IngestEvents", AuditOutcome.DENIED, ErrorReason.MISSING_SCOPE],
        ["CreateApiKey", AuditOutcome.DENIED, ErrorReason.MISSING_SCOPE],
        ["RevokeApiKey", AuditOutcome.FAILED, ErrorReason.NOT_FOUND],
        ["InviteUser", AuditOutcome.FAILED, ErrorReason.INVALID_FIELD],
      ],
    );
    assert.deepEqual(entries[0]?.actor?.apiKeyId, apiKey?.id);
    assert.deepEqual(entries[0]?.details, {});
  });

  test("data and reads cost no entry", async () => {
    const tenant = await newTenant();
    const before = (await entriesOf(tenant)).length;
    const ingestion = createClient(IngestionService, session.transport);
    const metrics = createClient(MetricsService, session.transport);
    const by = withKey(tenant.apiKey);
    await ingestion.ingestEvent({ event: { eventType: "x" } }, by);
    await ingestion.ingestEvents({ events: [{ eventType: "x" }] }, by);
    await ingestion.listEvents({}, by);
    await auth.listUsers({}, by);
    await auth.getMe({}, by);
    assert.equal((await entriesOf(tenant)).length, before);
    await metrics.createStore({ name: "A" }, by);
    assert.equal((await entriesOf(tenant)).length, before + 1);
  });

  test("an answer that is given again is no second entry", async () => {
    const tenant = await newTenant();
    const before = (await entriesOf(tenant)).length;
    const request = { email: "twice@x.example", role: Role.VIEWER, requestId: randomUUID() };
    const [first, second] = [
      await auth.inviteUser(request, bearer(tenant.token)),
      await auth.inviteUser(request, bearer(tenant.token)),
    ];
    assert.equal(first.user?.id, second.user?.id);
    assert.equal((await entriesOf(tenant)).length, before + 1);
  });

  test("no secret is in any entry", async () => {
    const tenant = await newTenant();
    const owner = bearer(tenant.token);
    const made = await auth.createApiKey({ name: "secretive" }, owner);
    const rotated = await auth.rotateApiKey({ apiKeyId: made.apiKey?.id ?? "" }, owner);
    const invited = await auth.inviteUser({ email: "s@x.example", role: Role.VIEWER }, owner);
    await auth.resetPassword({ userId: invited.user?.id ?? "" }, owner);
    const { refreshToken, accessToken } = await auth.login({
      email: tenant.email,
      password: tenant.password,
      tenantSlug: tenant.slug,
    });
    await auth.refreshToken({ refreshToken }).catch(() => {});
    await auth
      .login({ email: tenant.email, password: "hunter2 hunter2", tenantSlug: tenant.slug })
      .catch(() => {});
    await auth
      .changePassword({ currentPassword: "wrong secret", newPassword: "another secret of mine" }, owner)
      .catch(() => {});
    await auth.verifyCode({ email: tenant.email, code: "123456", tenantSlug: tenant.slug }).catch(() => {});
    await eventually(tenant, { outcome: AuditOutcome.DENIED }, 2);
    const { rows } = await platform.base.database.superuser.query(
      "select e::text as line from audit_entries e",
    );
    const everything = rows.map(({ line }) => line).join("\n");
    for (const secret of [
      made.secret,
      rotated.secret,
      invited.temporaryPassword,
      refreshToken,
      accessToken,
      tenant.password,
      "hunter2",
      "wrong secret",
      "another secret",
      "123456",
    ]) {
      assert.ok(secret.length > 5 && !everything.includes(secret));
    }
  });

  test("numbers have no gap and hashes hold under load from two servers", async () => {
    const tenant = await newTenant();
    const before = (await entriesOf(tenant)).length;
    const owner = bearer(tenant.token);
    const calls = Array.from({ length: 60 }, (_, n) => {
      const client = n % 2 ? auth : platform.elsewhere;
      if (n % 5 === 0) return client.revokeApiKey({ apiKeyId: randomUUID() }, owner).catch(() => {});
      return client.inviteUser(
        { email: `n${n}@x.example`, role: Role.VIEWER, displayName: `é 𝄞 ${n}` },
        owner,
      );
    });
    await Promise.all(calls);
    const sequences = (await entriesOf(tenant)).map(({ sequence }) => sequence);
    assert.deepEqual(
      sequences,
      Array.from({ length: before + 60 }, (_, index) => BigInt(index + 1)),
    );
    const answer = await verify(tenant);
    assert.deepEqual([answer.valid, answer.entriesVerified, answer.problem], [true, BigInt(before + 60), ""]);
  });

  test("an export can be verified as it stands, and goes on after a cursor", async () => {
    const tenant = await newTenant();
    const owner = bearer(tenant.token);
    const filler = `${"y".repeat(190)} 𝄞`;
    for (let n = 0; n < 30; n++) {
      await auth.inviteUser(
        { email: `e${n}@x.example`, role: Role.VIEWER, displayName: filler.slice(0, 200) },
        owner,
      );
    }
    let text = "";
    let lines = 0;
    let cursor = "";
    for await (const piece of auth.exportAuditEntries({}, owner)) {
      assert.ok(piece.ndjson.length <= 1024 * 1024);
      text += Buffer.from(piece.ndjson).toString();
      lines += piece.lines;
      cursor = piece.cursor;
    }
    const entries = text
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.equal(entries.length, lines);
    // As somebody outside would: SHA-256 over the line without its hash, keys sorted.
    let previous = Buffer.alloc(32).toString("base64");
    for (const { hash, ...rest } of entries) {
      assert.equal(rest.previousHash, previous);
      assert.equal(createHash("sha256").update(sorted(rest)).digest("base64"), hash);
      previous = hash;
    }
    const { lastHash, lastSequence } = await verify(tenant);
    assert.equal(Buffer.from(lastHash).toString("base64"), previous);
    assert.equal(lastSequence, BigInt(entries.length));

    await auth.inviteUser({ email: "later@x.example", role: Role.VIEWER }, owner);
    const rest: string[] = [];
    for await (const piece of auth.exportAuditEntries({ cursor }, owner))
      rest.push(Buffer.from(piece.ndjson).toString());
    assert.equal(rest.join("").trimEnd().split("\n").length, 1);
    assert.match(rest.join(""), /later@x\.example/);
    const other = auth.exportAuditEntries({ cursor, filter: { resourceType: "user" } }, owner);
    await assertFails(other[Symbol.asyncIterator]().next(), Code.InvalidArgument, "INVALID_CURSOR");
  });

  test("is listed newest first, page by page, filtered, and each tenant's own", async () => {
    const tenant = await newTenant();
    const stranger = await newTenant();
    const owner = bearer(tenant.token);
    const { user } = await auth.inviteUser({ email: "f@x.example", role: Role.VIEWER }, owner);
    await auth.revokeApiKey({ apiKeyId: randomUUID() }, withKey(tenant.apiKey)).catch(() => {});
    const all = await entriesOf(tenant);
    const paged: bigint[] = [];
    let pageToken = "";
    do {
      const page = await auth.listAuditEntries({ pageSize: 2, pageToken }, owner);
      paged.push(...page.auditEntries.map(({ sequence }) => sequence));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(paged, all.map(({ sequence }) => sequence).reverse());

    const count = async (filter: object) => (await entriesOf(tenant, filter)).length;
    const me = all.at(-2)?.actor?.userId ?? "";
    assert.equal(await count({ resourceId: user?.id ?? "" }), 1);
    assert.equal(await count({ resourceType: "user", methods: [`${service}/InviteUser`] }), 1);
    assert.equal(await count({ outcome: AuditOutcome.FAILED }), 1);
    assert.ok((await count({ userId: me.toUpperCase() })) >= 2);
    assert.equal(await count({ apiKeyId: all.at(-1)?.actor?.apiKeyId ?? "" }), 1);
    assert.equal(await count({ addressRange: "127.0.0.0/8" }), all.length);
    assert.equal(await count({ addressRange: "2001:db8::/32" }), 0);
    assert.equal(await count({ occurredFrom: timestampFromMs(Date.now() + 60_000) }), 0);
    assert.equal(await count({ occurredUntil: timestampFromMs(Date.now() + 60_000) }), all.length);
    assert.ok((await entriesOf(stranger)).every(({ tenantId }) => tenantId === stranger.tenantId));
    const first = await auth.listAuditEntries({ pageSize: 1 }, owner);
    const foreign = auth.listAuditEntries(
      { pageSize: 1, pageToken: first.nextPageToken },
      bearer(stranger.token),
    );
    await assertFails(foreign, Code.InvalidArgument, "INVALID_CURSOR");
    const member = await platform.person(tenant, "MEMBER");
    await assertFails(auth.listAuditEntries({}, member), Code.PermissionDenied, "MISSING_SCOPE");
  });

  test("the service itself cannot change or delete an entry", async () => {
    const { pool } = platform.base.database.app;
    for (const statement of [
      "update audit_entries set email = ''",
      "delete from audit_entries",
      "truncate audit_entries",
    ]) {
      await assert.rejects(pool.query(statement), { code: "42501" });
    }
  });

  test("whoever tampers is found out", async () => {
    const { superuser } = platform.base.database;
    const tenant = await newTenant();
    const { tenantId } = tenant;
    for (let n = 0; n < 3; n++) {
      await auth.inviteUser({ email: `t${n}@x.example`, role: Role.VIEWER }, bearer(tenant.token));
    }
    const honest = await verify(tenant);
    assert.deepEqual([honest.valid, honest.lastSequence], [true, 7n]);
    await superuser.query("create table honest_entries as select * from audit_entries");
    const tampered = async (statement: string, broken: bigint, verified = broken - 1n) => {
      await superuser.query(statement, [tenantId]);
      const answer = await verify(tenant, { expectedHash: honest.lastHash });
      assert.deepEqual(
        [answer.valid, answer.brokenSequence, answer.entriesVerified],
        [false, broken, verified],
        statement,
      );
      assert.match(answer.problem, /entry \d/);
      await superuser.query("delete from audit_entries where tenant_id = $1", [tenantId]);
      await superuser.query("insert into audit_entries select * from honest_entries where tenant_id = $1", [
        tenantId,
      ]);
      assert.equal((await verify(tenant)).valid, true);
    };
    const where = "where tenant_id = $1 and sequence = 3";
    for (const change of [
      "email = 'somebody@else.example'",
      "outcome = 'FAILED'",
      "occurred_at = occurred_at + interval '1 microsecond'",
      "address = '192.0.2.1'",
      'details = \'{"a":{"new":1}}\'',
      "details = '[]'",
      "actor_type = 'NONSENSE'",
      "platform_admin = true",
      "user_id = null",
      "hash = sha256('x')",
    ]) {
      await tampered(`update audit_entries set ${change} ${where}`, 3n);
    }
    await tampered(`update audit_entries set previous_hash = sha256('x') ${where}`, 3n);
    await tampered(`delete from audit_entries ${where}`, 3n);
    await tampered("delete from audit_entries where tenant_id = $1 and sequence = 1", 1n);
    await tampered(
      "update audit_entries set sequence = case sequence when 3 then 104 else 103 end where tenant_id = $1 and sequence in (3, 4)",
      3n,
    );
    // One in between: the later ones are moved up.
    await tampered(
      `with moved as (
         update audit_entries set sequence = sequence + 1000 where tenant_id = $1 and sequence >= 3 returning 1
       ), copied as (
         insert into audit_entries select (jsonb_populate_record(e, '{"sequence": 3}')).* from audit_entries e
         where tenant_id = $1 and sequence = 2 returning 1
       ) select * from moved, copied`,
      3n,
    );
    // Cut off at the end: the rest is a chain, but does not end as it was noted down.
    await tampered("delete from audit_entries where tenant_id = $1 and sequence = 7", 6n, 6n);
    await superuser.query("drop table honest_entries");
  });

  test("verifies a part of the log, and refuses what is none", async () => {
    const tenant = await newTenant();
    const whole = await verify(tenant);
    assert.deepEqual([whole.lastSequence, whole.nextSequence], [4n, 0n]);
    const part = await verify(tenant, { fromSequence: 2n, untilSequence: 3n });
    assert.deepEqual([part.valid, part.entriesVerified, part.lastSequence], [true, 2n, 3n]);
    const end = await verify(tenant, { fromSequence: 4n, expectedHash: whole.lastHash });
    assert.deepEqual([end.valid, end.entriesVerified], [true, 1n]);
    for (const [request, field] of [
      [{ fromSequence: 3n, untilSequence: 2n }, "from_sequence"],
      [{ fromSequence: 9n }, "from_sequence"],
      [{ untilSequence: 5n }, "until_sequence"],
    ] as const) {
      const refused = await assertFails(verify(tenant, request), Code.InvalidArgument, "INVALID_FIELD");
      assert.deepEqual(refused.fields, [field]);
    }
  });
});

/** The canonical form of RFC 8785 for what ProtoJSON holds, written anew so that it checks the other. */
function sorted(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(sorted).join()}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${sorted(item)}`).join()}}`;
}
