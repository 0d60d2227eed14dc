/**
 * No method answers with another tenant's data, whatever protocol, caller and ids: generated from the contract. Every field
 * that names something gets the victim's value, alone and together with the others; the answer must be an error or hold
 * nothing of the victim's, whose rows must stay as they are. That this would be noticed is shown by the victim's own calls.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type DescMethod, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { Code, createClient } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { violationsOf } from "../server/src/rpc/validate.ts";
import { contractServices } from "../server/src/services.ts";
import { sampleRequest } from "./helpers/requests.ts";
import { serve, startTestServer, type TestServer, type TestTenant } from "./helpers/server.ts";
import { type StringField, stringFields } from "./helpers/string-fields.ts";
import { digests, lastEntry, secretsOf, tenantTables } from "./helpers/tenant-data.ts";
import {
  type Attacker,
  makeVictim,
  mark,
  readPositions,
  type Victim,
  victimsValue,
} from "./helpers/victim.ts";
import { type Answer, callAny, openWires, type WireName, wireNames } from "./helpers/wires.ts";

/** Fields that name something: a resource, a person, a place in a list, an earlier call, or what to search for. */
const namesSomething = /(^|_)(ids?|by|krns?|slug|token|cursor|etag|contains|prefix)$|names?$/;

/** Of these there is one for each query; other fields would make it another query. */
const isPosition = ({ name }: StringField) => name === "page_token" || name === "cursor";

const reads = ({ idempotency }: DescMethod) => idempotency === Idempotency.NO_SIDE_EFFECTS;

/** Reads first, so that they see what was not asked for yet; last what would end a session or a resource. */
function order({ name, idempotency }: DescMethod): number {
  if (["Logout", "ChangePassword"].includes(name)) return 3;
  if (/^(Delete|Remove|Revoke)/.test(name)) return 2;
  return idempotency === Idempotency.NO_SIDE_EFFECTS ? 0 : 1;
}
const methods = contractServices
  .flatMap((service) => service.methods as readonly DescMethod[])
  .toSorted((a, b) => order(a) - order(b));

/** Texts that a caller may choose freely; who chooses the victim's has something of their own with that name. */
const freelyChosen = /^(event|events)\.(event_id|user_id|session_id)$|^user_id$|^spec\.metric_name$/;

let server: TestServer;
let publicUrl: string;
let stopPublic: () => Promise<void>;
let victim: Victim;
let stranger: TestTenant;

before(async () => {
  server = await startTestServer({ PULSEWIRE_DEVELOPMENT_TOKENS: "on", PULSEWIRE_API_KEY_USE_INTERVAL: "1" });
  stranger = server.tenant;
  victim = await makeVictim(server);
  // Here the stranger's tenant is open to all for reading.
  const open = await serve(server.database, {
    PULSEWIRE_PUBLIC_TENANT: stranger.slug,
    PULSEWIRE_DEVELOPMENT_TOKENS: "on",
  });
  publicUrl = open.url;
  stopPublic = () => open[Symbol.asyncDispose]();
});
after(async () => {
  await stopPublic();
  await server.stop();
});

async function logIn({ email, password, slug }: TestTenant) {
  using wires = openWires(server.url);
  const auth = createClient(AuthService, wires.transports.gRPC);
  return await auth.login({ email, password, tenantSlug: slug });
}

const callers: Record<string, () => Promise<{ url: string } & Attacker>> = {
  "another tenant's owner": async () => ({
    ...as(stranger),
    headers: { authorization: `Bearer ${(await logIn(stranger)).accessToken}`, "x-pulsewire-tenant": mark },
  }),
  "another tenant's key with all scopes": logInAsKey,
  "nobody, where another tenant is public": async () => ({
    ...as(stranger),
    url: publicUrl,
    headers: { "x-pulsewire-tenant": mark },
  }),
};

async function logInAsKey() {
  return { ...as(stranger), headers: { "x-api-key": stranger.apiKey, "x-pulsewire-tenant": mark } };
}

function as(tenant: TestTenant) {
  const refreshToken = async () => (await logIn(tenant)).refreshToken;
  return { url: server.url, isVictim: tenant === victim.tenant, refreshToken };
}

// --- Requests with the victim's ids ---------------------------------------------------------------------------------

interface Attempt {
  /** What is tried, for messages. */
  readonly title: string;
  readonly request: JsonObject;
  /** The victim's values in it. */
  readonly sent: readonly string[];
  /** Those among them that anyone may choose. */
  readonly chosen: readonly string[];
}

const positions = new Map<DescMethod, Promise<Record<string, string>>>();

function positionsAt(method: DescMethod): Promise<Record<string, string>> {
  const found = positions.get(method) ?? readPositions(server.url, victim, method);
  positions.set(method, found);
  return found;
}

/** The request with all the victim's ids that fit together, and with each optional one alone. */
async function attemptsAt(method: DescMethod, attacker: Attacker): Promise<Attempt[]> {
  // The victim's own changes make them stale.
  const read = attacker.isVictim ? (of: DescMethod) => readPositions(server.url, victim, of) : positionsAt;
  const fields = stringFields(method.input).filter(({ name }) => namesSomething.test(name));
  const sample = signInAs(method, attacker);
  const base: [StringField, string][] = [];
  const optional: [StringField, string][] = [];
  for (const field of fields) {
    const value = await victimsValue(field, method, victim, attacker, read);
    if (value !== undefined) (field.isIn(sample) ? base : optional).push([field, value]);
  }
  const attempt = (title: string, set: [StringField, string][]): Attempt => {
    const all = [...base, ...set];
    return {
      title: `${method.name} with ${title}`,
      request: all.reduce((request, [field, value]) => field.set(request, value), sample),
      sent: all.map(([, value]) => value),
      chosen: all.filter(([{ path }]) => freelyChosen.test(path)).map(([, value]) => value),
    };
  };
  const oneofs = new Set<string>();
  const together = optional.filter(([field]) => {
    if (isPosition(field) || field.name === "request_id" || (field.oneof && oneofs.has(field.oneof)))
      return false;
    if (field.oneof) oneofs.add(field.oneof);
    return true;
  });
  const alone = optional.filter(([field]) => together.length !== 1 || field !== together[0]?.[0]);
  const whole = attempt("all ids", together);
  const parts = alone.map((one) => attempt(`${one[0].path} alone`, [one]));
  // Some fields need another: then they have had their turn.
  const { input } = method;
  return [
    whole,
    ...parts.filter(({ request }) => violationsOf(input, fromJson(input, request)).length === 0),
  ];
}

/** Public methods whose credentials stand in the request: the victim's account with the caller's secrets. */
function signInAs(method: DescMethod, { isVictim }: Attacker): JsonObject {
  const sample = sampleRequest(method);
  const { email, password } = isVictim ? victim.tenant : { ...stranger, email: victim.target };
  if (["Login", "VerifyCode", "RecoverPassword", "RequestCode"].includes(method.name)) sample.email = email;
  if (method.name === "Login") sample.password = password;
  if (method.name === "ChangePassword") sample.currentPassword = isVictim ? password : victim.tenant.password;
  return sample;
}

// --- What must not come back ----------------------------------------------------------------------------------------

/** What of the victim's is in an answer: as text, as bytes, and in tokens that are JSON inside. */
function foundIn({ content, messages }: Answer, method: DescMethod, secrets: readonly string[]): string[] {
  const json = messages.map((message) => JSON.stringify(toJson(method.output, message))).join("\n");
  const unpacked = [...json.matchAll(/"([A-Za-z0-9_-]{16,})"/g)].map(([, token = ""]) =>
    Buffer.from(token, "base64url").toString("latin1"),
  );
  const text = [content.toString("utf8"), ...unpacked].join("\n");
  return secrets.filter((secret) => text.includes(secret));
}

function reasonOf({ error }: Answer): string | undefined {
  return error && (error.findDetails(ErrorInfoSchema)[0]?.reason ?? Code[error.code]);
}

/** The victim's own calls are counted a little later, and so is no change by others. */
async function usageIsFolded(): Promise<void> {
  await server.context.usage.flush();
  for (const end = Date.now() + 10_000; ; await sleep(50)) {
    const { rowCount } = await server.database.superuser.query(
      "select from usage_increments where tenant_id = $1",
      [victim.tenant.tenantId],
    );
    if (rowCount === 0) return;
    assert.ok(Date.now() < end, "the usage was not folded");
  }
}

/** The victim's own use of its key, which is written a little later, is no change by others. */
async function keyUseIsWritten(): Promise<void> {
  for (const end = Date.now() + 10_000; ; await sleep(20)) {
    const { rowCount } = await server.database.superuser.query(
      "select from api_keys where id = $1 and last_used_at is not null",
      [victim.apiKeyId],
    );
    if (rowCount === 1) return;
    assert.ok(Date.now() < end, "the use of the key was not written");
  }
}

// --- The matrix -----------------------------------------------------------------------------------------------------

describe("with the victim's ids", () => {
  let secrets: string[];
  let rowsBefore: Record<string, string>;
  let entryBefore: string;
  /** What strangers have sent so far: their own audit log and the errors they get may say it again. */
  const sent = new Set<string>();
  /** What they have chosen of that as names of their own. */
  const chosen = new Set<string>();

  before(async () => {
    for (const method of methods) await positionsAt(method);
    await keyUseIsWritten();
    await usageIsFolded();
    secrets = await secretsOf(server.database.superuser, victim.tenant.tenantId, mark);
    entryBefore = await lastEntry(server.database.superuser, victim.tenant.tenantId);
    rowsBefore = await digests(server.database.superuser, victim.tenant.tenantId, entryBefore);
  });

  test("there is something to find", () => {
    const { ownerId, memberId, apiKeyId, storeId, providerId, tenant } = victim;
    for (const id of [ownerId, memberId, apiKeyId, storeId, providerId, tenant.tenantId, tenant.email])
      assert.ok(secrets.includes(id), id);
    assert.ok(secrets.length > 60, String(secrets.length));
  });

  for (const [caller, logInAs] of Object.entries(callers)) {
    for (const wire of wireNames) {
      test(`${caller} gets nothing over ${wire}`, async () => {
        const attacker = await logInAs();
        using wires = openWires(attacker.url);
        let calls = 0;
        for (const method of methodsOf(wire)) {
          // Each id alone over one protocol: the handlers are the same.
          const attempts = await attemptsAt(method, attacker);
          for (const attempt of wire === "gRPC" ? attempts : attempts.slice(0, 1)) {
            const answer = await callAny(wires.transports[wire], method, attempt.request, attacker.headers);
            checkAnswer(method, attempt, answer);
            calls++;
          }
        }
        assert.ok(calls >= methodsOf(wire).length * (wire === "gRPC" ? 1.5 : 1), String(calls));
      });
    }
  }

  /** What of the victim's an answer tells that strangers did not say before. */
  function leaksIn(method: DescMethod, attempt: Attempt, answer: Answer): string[] {
    for (const value of attempt.sent) sent.add(value);
    for (const value of attempt.chosen) chosen.add(value);
    const repeats = answer.error !== undefined || /AuditEntries$/.test(method.name);
    const known = repeats ? sent : chosen;
    return foundIn(answer, method, secrets).filter((secret) => !known.has(secret));
  }

  function checkAnswer(method: DescMethod, attempt: Attempt, answer: Answer): void {
    const reason = reasonOf(answer) ?? "answered";
    // Refused as a bad request, or not answered, it would have proven nothing.
    const empty = /^(INVALID_FIELD|MALFORMED_REQUEST|INTERNAL|DEPENDENCY_UNAVAILABLE|[A-Z][a-z]+.*)$/;
    assert.doesNotMatch(reason, empty, `${attempt.title}: ${answer.error?.message}`);
    assert.deepEqual(leaksIn(method, attempt, answer), [], `${attempt.title} (${reason})`);
  }

  test("and nothing of the victim's has changed but failed sign-ins in the audit log", async () => {
    const { tenantId } = victim.tenant;
    assert.deepEqual(await digests(server.database.superuser, tenantId, entryBefore), rowsBefore);
    const { rows } = await server.database.superuser.query(
      `select distinct method, outcome, user_id, api_key_id from audit_entries
       where tenant_id = $1 and sequence > $2 and (outcome = 'SUCCEEDED' or method !~ '/(Login|RecoverPassword|VerifyCode)$')`,
      [tenantId, entryBefore],
    );
    assert.deepEqual(rows, []);
  });

  test("and no row of anyone else refers to the victim's", async () => {
    const ids = secrets.filter((secret) => /^[0-9a-f-]{36}$/.test(secret));
    for (const { table, column } of await tenantTables(server.database.superuser)) {
      // What was tried stands in the log of who tried it, and the key of an event follows from the id that was chosen.
      if (["audit_entries", "event_keys"].includes(table)) continue;
      const { rows } = await server.database.superuser.query(
        `select to_jsonb(t) as row from ${table} t where ${column} <> $1`,
        [victim.tenant.tenantId],
      );
      for (const { row } of rows) {
        const text = JSON.stringify(row);
        assert.deepEqual(
          ids.filter((id) => text.includes(id)),
          [],
          table,
        );
      }
    }
  });

  test("and is not told whether there is such an id", async () => {
    const attacker = await logInAsKey();
    using wires = openWires(attacker.url);
    const uuids = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
    let compared = 0;
    for (const method of methods) {
      for (const { title, request, sent: ids } of await attemptsAt(method, attacker)) {
        const foreign = ids.filter((id) => id.match(uuids) && id !== victim.requestId);
        if (foreign.length === 0) continue;
        const made = foreign.reduce((text, id) => text.replaceAll(id, randomUUID()), JSON.stringify(request));
        const said = [];
        for (const body of [request, JSON.parse(made)]) {
          const answer = await callAny(wires.transports.gRPC, method, body, attacker.headers);
          said.push([reasonOf(answer), answer.error?.rawMessage.replaceAll(uuids, "…")]);
        }
        assert.deepEqual(said[0], said[1], title);
        compared++;
      }
    }
    assert.ok(compared > 60, String(compared));
  });

  test("also where row security is off: the queries name the tenant themselves", async () => {
    const attacker = await logInAsKey();
    using wires = openWires(server.url);
    const { superuser } = server.database;
    const tables = await tenantTables(superuser);
    const turn = async (way: "disable" | "enable") => {
      for (const { table } of tables) await superuser.query(`alter table ${table} ${way} row level security`);
    };
    await turn("disable");
    for (const method of methods.filter(reads)) {
      for (const attempt of await attemptsAt(method, attacker)) {
        const answer = await callAny(wires.transports.gRPC, method, attempt.request, attacker.headers);
        assert.deepEqual(leaksIn(method, attempt, answer), [], attempt.title);
      }
    }
    await turn("enable");
  });

  // --- That the matrix can fail -------------------------------------------------------------------------------------

  test("a row that came into the wrong tenant is noticed", async () => {
    const { superuser } = server.database;
    const { rows } = await superuser.query(
      "insert into stores (tenant_id, id, name) select $1, gen_random_uuid(), name from stores where id = $2 returning id",
      [stranger.tenantId, victim.storeId],
    );
    const attacker = await logInAsKey();
    using wires = openWires(server.url);
    const { listStores } = MetricsService.method;
    const whole = { title: "all", request: {}, sent: [], chosen: [] };
    const answer = await callAny(wires.transports.gRPC, listStores, {}, attacker.headers);
    assert.ok(leaksIn(listStores, whole, answer).includes(`second ${mark} store`));
    await superuser.query("delete from stores where id = $1", [rows[0].id]);
  });

  for (const wire of wireNames) {
    test(`the victim itself reads its data with the same calls over ${wire}`, async () => {
      const own = { ...as(victim.tenant), headers: { authorization: `Bearer ${victim.tenant.token}` } };
      const { superuser } = server.database;
      const secretsNow = [...secrets, ...(await secretsOf(superuser, victim.tenant.tenantId, mark))];
      using wires = openWires(server.url);
      for (const method of methods.filter(reads)) {
        for (const { title, request } of await attemptsAt(method, own)) {
          const answer = await callAny(wires.transports[wire], method, request, own.headers);
          checkOwn(method, title, answer);
          // No entry is of a person and of a key.
          if (answer.error || /AuditEntries with all ids$/.test(title) || onlyFigures.has(method.name))
            continue;
          // A refusal in between is entered in the audit log, whose last hash is then another.
          const found = foundIn(answer, method, secretsNow);
          if (found.length === 0)
            secretsNow.push(...(await secretsOf(superuser, victim.tenant.tenantId, mark)));
          assert.notDeepEqual(
            foundIn(answer, method, secretsNow),
            [],
            `${title} gives nothing of the victim's`,
          );
        }
      }
    });
  }

  test("the victim itself changes its data with the same calls", async () => {
    for (const method of methods.filter((method) => !reads(method))) {
      const { accessToken } = await logIn(victim.tenant);
      const own = { ...as(victim.tenant), headers: { authorization: `Bearer ${accessToken}` } };
      using wires = openWires(server.url);
      const [attempt] = await attemptsAt(method, own);
      assert.ok(attempt);
      const answer = await callAny(wires.transports.gRPC, method, attempt.request, own.headers);
      checkOwn(method, attempt.title, answer);
    }
    assert.notDeepEqual(
      await digests(server.database.superuser, victim.tenant.tenantId, entryBefore),
      rowsBefore,
    );
  });
});

/** Methods whose answers hold numbers only, even for the victim. */
const onlyFigures = new Set(["GetIngestStats"]);

/** What even the victim's owner is refused, and why. */
const refusedToAll: Record<string, string> = {
  ListTenants: "MISSING_SCOPE",
  CreateTenant: "MISSING_SCOPE",
  RegisterTenant: "ALREADY_EXISTS",
  IngestEvent: "CONFLICT",
  ReportProgress: "CONFLICT",
  RequestCode: "NOT_CONFIGURED",
  VerifyCode: "INVALID_CODE",
  RecoverPassword: "INVALID_CODE",
};

/**
 * The victim gets what it asks for, where the method is built. One that is built from now on fails here until
 * helpers/victim.ts makes the victim what it is about.
 */
function checkOwn(method: DescMethod, title: string, answer: Answer): void {
  const reason = reasonOf(answer);
  if (reason === "NOT_IMPLEMENTED") return;
  assert.equal(reason, refusedToAll[method.name], `${title}: ${answer.error?.message}`);
}

function methodsOf(wire: WireName): DescMethod[] {
  return wire === "Connect GET" ? methods.filter(reads) : methods;
}
