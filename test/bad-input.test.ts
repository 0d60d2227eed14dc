/**
 * Bad input, byte for byte: every refusal has the right code, HTTP status, reason and fields on every wire, stores
 * nothing and tells nothing of the inside.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import {
  create,
  type DescMethodUnary,
  fromJson,
  type JsonObject,
  type Message,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { decodeJwt, generateKeyPair, importJWK, type JWK, SignJWT, UnsecuredJWT } from "jose";
import { apiKeyPrefix, hashApiKey, newApiKey } from "../server/src/auth/keys/secret.ts";
import { BadRequestSchema, ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import type { ErrorReason } from "../server/src/gen/pulsewire/common/v1/error_reason_pb.js";
import {
  IngestEventRequestSchema,
  ListEventsRequestSchema,
} from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import {
  QuerySamplesRequestSchema,
  WriteSamplesRequestSchema,
} from "../server/src/gen/pulsewire/metrics/v1/sample_pb.js";
import { type EveryWire, everyWire, type Wire, wires } from "./helpers/every-wire.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

const { login } = AuthService.method;
const { ingestEvent, ingestEvents, listEvents } = IngestionService.method;
const { writeSamples, querySamples, createStore, listStores, listSeries } = MetricsService.method;

const binary = wires.filter((wire) => wire !== "JSON");

/** What the Connect protocol makes of a code; gRPC and gRPC-Web answer 200 and tell the code in trailers. */
const statuses: Partial<Record<Code, number>> = {
  [Code.InvalidArgument]: 400,
  [Code.Unauthenticated]: 401,
  [Code.PermissionDenied]: 403,
  [Code.NotFound]: 404,
  [Code.AlreadyExists]: 409,
  [Code.ResourceExhausted]: 429,
  [Code.Unimplemented]: 501,
};

// --- What a refusal must be -----------------------------------------------------------------------------------------

type FieldRefusal = [field: string, rule: string | RegExp, says: RegExp];

interface Refusal {
  /** Default: IngestEvent. */
  method?: DescMethodUnary;
  /** Instead of the method's own. */
  path?: string;
  /** The request; default: a good event. */
  request?: JsonObject;
  /** A request that JSON cannot say, for the binary wires. */
  message?: [Message];
  /** The body as it is, instead of a request. */
  raw?: string | Uint8Array;
  /** Default: all. */
  on?: Wire[];
  /** Default: the tenant's key. */
  headers?: Record<string, string>;

  code: Code;
  /** HTTP status on Connect and JSON; default: what follows from the code. */
  status?: number;
  /** Undefined: the contract documents none. */
  reason?: keyof typeof ErrorReason;
  metadata?: Record<string, string>;
  says: RegExp;
  /** All fields named, each with the rule's id and what the sentence says. */
  fields?: FieldRefusal[];
}

const inside =
  /\bselect\b|insert into|pg_|postgres|sqlstate|relation "|violates|node_modules|\.[jt]s\b|\n\s+at |\/(home|tmp|work|usr|root)\//i;

async function assertRefused(refusal: Refusal): Promise<void> {
  const method = refusal.method ?? ingestEvent;
  const stored = await countRows();
  for (const wire of refusal.on ?? (refusal.message ? binary : wires)) {
    const path = refusal.path ?? `/${method.parent.typeName}/${method.name}`;
    const headers = refusal.headers ?? { "x-api-key": server.tenant.apiKey };
    const { status, error, text } = await calls.send(wire, path, encode(wire, method, refusal), headers);
    assert.ok(error, `${wire}: was not refused`);
    const seen = `${wire}: ${Code[error.code]} ${error.rawMessage}`;
    assert.equal(Code[error.code], Code[refusal.code], seen);
    const overHttp = wire === "Connect" || wire === "JSON";
    assert.equal(status, overHttp ? (refusal.status ?? statuses[refusal.code]) : 200, seen);
    assert.match(error.rawMessage, refusal.says, seen);
    assert.doesNotMatch(text, inside, seen);

    const [info] = error.findDetails(ErrorInfoSchema);
    assert.equal(info?.reason, refusal.reason, seen);
    if (refusal.reason) assert.equal(info?.domain, "pulsewire", seen);
    assert.deepEqual({ ...info?.metadata, ...refusal.metadata }, { ...info?.metadata }, seen);
    const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
    const fields = refusal.fields ?? [];
    assert.deepEqual(
      violations.map(({ field }) => field),
      fields.map(([field]) => field),
      seen,
    );
    for (const [index, { reason, description }] of violations.entries()) {
      const [, rule, says] = fields[index] as FieldRefusal;
      assert.match(reason, typeof rule === "string" ? new RegExp(`^${RegExp.escape(rule)}$`) : rule, seen);
      assert.match(description, says, seen);
    }
  }
  assert.deepEqual(await countRows(), stored);
}

function encode(
  wire: Wire,
  method: DescMethodUnary,
  { request = { event: goodEvent }, raw, message }: Refusal,
) {
  if (raw !== undefined) return Buffer.from(raw);
  if (wire === "JSON") return Buffer.from(JSON.stringify(request));
  return toBinary(method.input, message?.[0] ?? fromJson(method.input, request));
}

/** Every row of every table that a call of these tests could write to. */
async function countRows(): Promise<Record<string, string>> {
  const tables = [
    "tenants",
    "users",
    "api_keys",
    "events",
    "event_keys",
    "stores",
    "series",
    "sample_batches",
  ];
  const counts = tables.map((table) => `(select count(*) from ${table}) as ${table}`);
  const { rows } = await server.database.superuser.query(`select ${counts.join()}`);
  return rows[0];
}

// --- The server and who calls it ------------------------------------------------------------------------------------

const goodEvent = { eventType: "order.placed" };

let server: TestServer;
let calls: EveryWire;
let storeId: string;

before(async () => {
  server = await startTestServer({
    PULSEWIRE_MAX_MESSAGE_BYTES: String(512 * 1024),
    PULSEWIRE_MAX_BATCH_EVENTS: "3",
    PULSEWIRE_MAX_BATCH_SAMPLES: "4",
  });
  calls = everyWire(server.url);
  using grpc = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const { store } = await createClient(MetricsService, grpc.transport).createStore({ name: "the store" });
  storeId = store?.id ?? "";
});
after(async () => {
  calls[Symbol.dispose]();
  await server.stop();
});

/** A key put into the database as it is. */
async function insertKey(columns: {
  scopes?: string;
  revoked_at?: Date;
  expires_at?: Date;
  store_ids?: string;
}) {
  const secret = newApiKey();
  const row: Record<string, unknown> = {
    tenant_id: server.tenant.tenantId,
    id: randomUUID(),
    name: "bad input",
    key_prefix: apiKeyPrefix(secret),
    key_hash: hashApiKey(secret),
    scopes: "{EVENTS_WRITE,METRICS_WRITE}",
    ...columns,
  };
  const names = Object.keys(row);
  await server.database.superuser.query(
    `insert into api_keys (${names.join()}) values (${names.map((_, index) => `$${index + 1}`).join()})`,
    Object.values(row),
  );
  return { "x-api-key": secret };
}

/** The tenant, user and session that a token is of. */
function sessionClaims(token: string): Record<string, unknown> {
  const { tid, sub, sid, ver } = decodeJwt(token);
  return { tid, sub, sid, ver };
}

/** A token that is right but for what is given. */
async function signToken({
  issuer = "pulsewire",
  audience = "pulsewire",
  expiresInSeconds = 600,
  claims = sessionClaims(server.tenant.token),
  key = undefined as Parameters<SignJWT["sign"]>[0] | undefined,
  alg = "EdDSA",
} = {}): Promise<{ authorization: string }> {
  const { rows } = await server.database.superuser.query("select kid, private_key from signing_keys");
  const expiresAt = Math.floor(Date.now() / 1000) + expiresInSeconds;
  const token = new SignJWT(claims)
    .setProtectedHeader({ alg, typ: "JWT", kid: rows[0].kid })
    .setIssuer(issuer)
    .setAudience(audience)
    .setIssuedAt(expiresAt - 600)
    .setExpirationTime(expiresAt);
  return bearer(await token.sign(key ?? (await importJWK(JSON.parse(rows[0].private_key) as JWK, "EdDSA"))));
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** The token of an owner whose password is still the temporary one. */
async function temporaryToken(): Promise<string> {
  using session = grpcSession(server.url);
  const auth = createClient(AuthService, session.transport);
  const slug = `temporary-${randomUUID().slice(0, 8)}`;
  const email = `owner@${slug}.example`;
  const { temporaryPassword } = await auth.registerTenant({ name: slug, slug, contactEmail: email });
  const login = { email, password: temporaryPassword, tenantSlug: slug };
  return (await auth.login(login)).accessToken;
}

/** The second page's token of the stores. */
async function pageToken(): Promise<string> {
  using grpc = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const metrics = createClient(MetricsService, grpc.transport);
  await metrics.createStore({ name: `another ${randomUUID()}` });
  const { nextPageToken } = await metrics.listStores({ pageSize: 1 });
  assert.notEqual(nextPageToken, "");
  return nextPageToken;
}

// --- The tables -----------------------------------------------------------------------------------------------------

type Table = Record<string, () => Refusal | Promise<Refusal>>;

function runTable(title: string, table: Table): void {
  describe(title, () => {
    for (const [name, refusal] of Object.entries(table)) {
      test(name, async () => assertRefused(await refusal()));
    }
  });
}

const malformed = (raw: string | Uint8Array, says: RegExp, on: Wire[] = ["JSON"]): Refusal => {
  return { raw, on, says, code: Code.InvalidArgument, reason: "MALFORMED_REQUEST" };
};
const tooLarge = {
  code: Code.ResourceExhausted,
  reason: "MESSAGE_TOO_LARGE",
  metadata: { limit_bytes: String(512 * 1024) },
  says: /524288/,
} as const;
const largeRequest = { event: { ...goodEvent, payload: { text: "x".repeat(600 * 1024) } } };
const encoded = (encoding: string) => ({ "x-api-key": server.tenant.apiKey, "content-encoding": encoding });

runTable("bytes that are no request", {
  "wrong JSON": () => malformed('{"event": {', /JSON/),
  "no JSON at all": () => malformed("", /JSON/),
  "JSON that is no object": () => malformed("[]", /IngestEventRequest/),
  "unknown JSON field": () => malformed('{"event": {"colour": "red"}}', /"colour" is unknown/),
  "wrong type in JSON": () => malformed('{"event": {"eventType": 5}}', /event_type.*expected string, got 5/),
  "unknown enum value in JSON": () => malformed('{"event": {"severity": "LOUD"}}', /Severity.*"LOUD"/),
  "half a surrogate pair in JSON": () => malformed('{"event": {"eventType": "\\ud800"}}', /event_type/),
  "cut-off protobuf": () => {
    const whole = toBinary(
      IngestEventRequestSchema,
      fromJson(IngestEventRequestSchema, { event: goodEvent }),
    );
    return malformed(whole.subarray(0, -3), /premature EOF|cut off/, binary);
  },
  "message too large": () => ({ ...tooLarge, request: largeRequest }),
  "message too large when unpacked": () => ({
    ...tooLarge,
    raw: gzipSync(JSON.stringify(largeRequest)),
    headers: encoded("gzip"),
    on: ["JSON"],
  }),
  "encoding that is not there": () => ({
    code: Code.Unimplemented,
    raw: "{}",
    headers: encoded("zstd"),
    on: ["JSON"],
    says: /use gzip,br or none/,
  }),
});

const missing = { code: Code.Unimplemented, status: 404 };

runTable("calls to what is not there", {
  "unknown service": () => ({
    ...missing,
    path: "/pulsewire.ingestion.v1.IngestService/IngestEvent",
    says: /did you mean pulsewire\.ingestion\.v1\.IngestionService\?/,
  }),
  "unknown method": () => ({
    ...missing,
    path: "/pulsewire.ingestion.v1.IngestionService/IngestEvnt",
    says: /did you mean IngestEvent\?/,
  }),
});

const badKey = (headers: Record<string, string>, says: RegExp): Refusal => {
  return { headers, says, code: Code.Unauthenticated, reason: "INVALID_API_KEY" };
};
const badToken = (headers: Record<string, string>, says: RegExp): Refusal => {
  return { headers, says, code: Code.Unauthenticated, reason: "INVALID_TOKEN" };
};
const notOurs = /not issued for this service/;

runTable("credentials", {
  "no credentials": () => ({
    headers: {},
    code: Code.Unauthenticated,
    reason: "MISSING_CREDENTIALS",
    says: /x-api-key.*authorization/,
  }),
  "misspelt key": () => {
    const { apiKey } = server.tenant;
    const wrong = apiKey.slice(0, 20) + (apiKey[20] === "A" ? "B" : "A") + apiKey.slice(21);
    return badKey({ "x-api-key": wrong }, /misspelt.*copy it again/);
  },
  "unknown key": () => badKey({ "x-api-key": newApiKey() }, /unknown.*CreateApiKey/),
  "unknown key as a bearer token": () => badKey(bearer(newApiKey()), /unknown/),
  "revoked key": async () => badKey(await insertKey({ revoked_at: new Date() }), /revoked/),
  "expired key": async () => badKey(await insertKey({ expires_at: new Date(Date.now() - 1000) }), /expired/),
  "wrong key on a public method": () => ({
    ...badKey({ "x-api-key": newApiKey() }, /unknown/),
    method: login,
    request: { email: server.tenant.email, password: server.tenant.password, tenantSlug: server.tenant.slug },
  }),
  "another scheme than Bearer": () => badToken({ authorization: "Basic dXNlcjpwYXNz" }, /'Bearer'/),
  "something that is no token": () => badToken(bearer("abc.def"), /malformed/),
  "expired token": async () => badToken(await signToken({ expiresInSeconds: -60 }), /expired.*log in again/),
  "token signed by another key": async () => {
    const { privateKey } = await generateKeyPair("EdDSA");
    return badToken(await signToken({ key: privateKey }), notOurs);
  },
  "token of another issuer": async () => badToken(await signToken({ issuer: "other" }), notOurs),
  "token for another audience": async () => badToken(await signToken({ audience: "other" }), notOurs),
  "token without a tenant": async () =>
    badToken(await signToken({ claims: { ...sessionClaims(server.tenant.token), tid: undefined } }), notOurs),
  "token with HS256, signed by the public key": async () => {
    const { rows } = await server.database.superuser.query("select public_jwk from signing_keys");
    const key = Buffer.from(rows[0].public_jwk.x, "base64url");
    return badToken(await signToken({ alg: "HS256", key }), notOurs);
  },
  "token with alg none": () => {
    const token = new UnsecuredJWT({ tid: server.tenant.tenantId, role: "OWNER" })
      .setSubject(randomUUID())
      .setIssuer("pulsewire")
      .setAudience("pulsewire")
      .setExpirationTime("10m");
    return badToken(bearer(token.encode()), /not valid/);
  },
  "missing scope": async () => ({
    headers: await insertKey({ scopes: "{EVENTS_READ}" }),
    code: Code.PermissionDenied,
    reason: "MISSING_SCOPE",
    metadata: { method: "pulsewire.ingestion.v1.IngestionService/IngestEvent", scopes: "EVENTS_WRITE" },
    says: /needs the scope EVENTS_WRITE/,
  }),
  "key that is bound to another store": async () => ({
    headers: await insertKey({ store_ids: `{${randomUUID()}}` }),
    method: writeSamples,
    request: sample({}),
    code: Code.PermissionDenied,
    reason: "KEY_RESTRICTED",
    metadata: { restriction: "store" },
    says: /bound to other stores/,
  }),
  "temporary password": async () => ({
    headers: bearer(await temporaryToken()),
    method: createStore,
    request: { name: "too early" },
    code: Code.PermissionDenied,
    reason: "PASSWORD_CHANGE_REQUIRED",
    says: /ChangePassword/,
  }),
  "wrong password": () => ({
    headers: {},
    method: login,
    request: { email: server.tenant.email, password: "a wrong one", tenantSlug: server.tenant.slug },
    code: Code.Unauthenticated,
    reason: "INVALID_LOGIN",
    says: /e-mail address, password or tenant slug/,
  }),
});

/** A refusal because of one field, which the message names first. */
function bad(method: DescMethodUnary, request: JsonObject | [Message], ...field: FieldRefusal): Refusal {
  const given = Array.isArray(request) ? { message: request } : { request };
  const says = new RegExp(`^${RegExp.escape(field[0])}: `);
  return { ...given, method, code: Code.InvalidArgument, reason: "INVALID_FIELD", says, fields: [field] };
}
const badEvent = (fields: JsonObject, ...field: FieldRefusal) =>
  bad(ingestEvent, { event: { ...goodEvent, ...fields } }, ...field);
const badEvents = (events: JsonObject[], ...field: FieldRefusal) => bad(ingestEvents, { events }, ...field);
const badSample = (fields: JsonObject, ...field: FieldRefusal) => bad(writeSamples, sample(fields), ...field);
const badSeries = (fields: JsonObject, ...field: FieldRefusal) => bad(writeSamples, packed(fields), ...field);

const nowPlusDays = (days: number) => new Date(Date.now() + days * 86_400_000).toISOString();
const sample = (fields: JsonObject) => ({ storeId, samples: [{ name: "load", value: 1, ...fields }] });
const packed = (fields: JsonObject) => ({
  storeId,
  series: [{ name: "load", baseTime: nowPlusDays(0), offsetsMs: [0], values: [1], ...fields }],
});

const nul = "a\u0000b";
const text = /^string\./;
const noNul = /\\x00|U\+0000/;
/** A time that the binary form can say and no calendar has. */
const noTime = { seconds: 1n << 62n };
const time = /^timestamp\./;
const range = /between \d{4}-.* and \d{4}-/;

runTable("events", {
  "no event": () => bad(ingestEvent, {}, "event", "required", /required/),
  "no event type": () => ({
    ...bad(ingestEvent, { event: {} }, "event.event_type", "string.min_len", /at least 1 char/),
    fields: [
      ["event.event_type", "string.min_len", /at least 1 char/],
      ["event.event_type", "string.pattern", /x1f/],
    ],
  }),
  "title too long": () =>
    badEvent({ title: "x".repeat(501) }, "event.title", "string.max_len", /at most 500 char/),
  "event id with a blank": () =>
    badEvent({ eventId: "a b" }, "event.event_id", "string.pattern", /x21-.*x7e/),
  "priority beyond its range": () =>
    badEvent({ priority: 11 }, "event.priority", "int32.gte_lte", /0 and .*10/),
  "metric that is no number": () =>
    badEvent({ metrics: { total: "NaN" } }, 'event.metrics["total"]', "double.finite", /finite/),
  "time before 1970": () =>
    badEvent({ timestamp: "1969-12-31T23:59:59Z" }, "event.timestamp", "timestamp.gte", /1970/),
  "time that no calendar has": () => {
    const message = create(IngestEventRequestSchema, { event: { ...goodEvent, timestamp: noTime } });
    return bad(ingestEvent, [message], "event.timestamp", time, /9999/);
  },
  "sending time that no calendar has": () => {
    const message = create(IngestEventRequestSchema, { event: goodEvent, sentAt: noTime });
    return bad(ingestEvent, [message], "sent_at", time, /must/);
  },
  "U+0000 in user_id": () => badEvent({ userId: nul }, "event.user_id", text, noNul),
  "U+0000 in the user of the context": () =>
    badEvent({ context: { user_id: nul } }, "event.context.user_id", text, noNul),
  "event too large": () =>
    badEvent({ payload: { text: "x".repeat(300 * 1024) } }, "event", "event.max_bytes", /262144 bytes/),
  "one bad event in a batch": () =>
    badEvents([goodEvent, { eventType: "a\nb" }], "events[1].event_type", "string.pattern", /x1f/),
  "empty batch": () => badEvents([], "events", "repeated.min_items", /at least 1 item/),
  "batch too large": () => badEvents(Array(4).fill(goodEvent), "events", "repeated.max_items", /at most 3/),
  "id that was used for another event": async () => {
    const eventId = randomUUID();
    const headers = { "x-api-key": server.tenant.apiKey };
    const path = `/${ingestEvent.parent.typeName}/${ingestEvent.name}`;
    const first = Buffer.from(JSON.stringify({ event: { ...goodEvent, eventId } }));
    const { error } = await calls.send("JSON", path, first, headers);
    assert.equal(error, undefined);
    return {
      request: { event: { eventType: "order.cancelled", eventId } },
      code: Code.AlreadyExists,
      reason: "CONFLICT",
      metadata: { id: eventId },
      says: /another body/,
    };
  },
});

runTable("samples and stores", {
  "no samples": () => bad(writeSamples, { storeId }, "samples", "required", /at least one/),
  "no store": () =>
    bad(writeSamples, { samples: [{ name: "a" }] }, "samples[0].store_id", "required", /missing/),
  "store id that is none": () =>
    bad(writeSamples, { ...sample({}), storeId: "kitchen" }, "store_id", "string.uuid", /UUID/),
  "unknown store": () => ({
    method: writeSamples,
    request: { ...sample({}), storeId: randomUUID() },
    code: Code.NotFound,
    reason: "NOT_FOUND",
    metadata: { resource: "store" },
    says: /no store/,
  }),
  "bad name": () => badSample({ name: "7 up" }, "samples[0].name", "string.pattern", /a-zA-Z_/),
  "too old": () =>
    badSample({ timestamp: nowPlusDays(-31) }, "samples[0].timestamp", "timestamp.range", range),
  "in the future": () =>
    badSeries(
      { offsetsMs: [0, 2 * 86_400_000], values: [1, 2] },
      "series[0].offsets_ms[1]",
      "timestamp.range",
      range,
    ),
  "sending time that no calendar has": () => {
    const message = create(WriteSamplesRequestSchema, {
      storeId,
      samples: [{ name: "load" }],
      sentAt: noTime,
    });
    return bad(writeSamples, [message], "sent_at", time, /must/);
  },
  "not a number": () => badSample({ value: "NaN" }, "samples[0].value", "double.finite", /finite/),
  "not a number, packed": () =>
    badSeries({ offsetsMs: [0, 1], values: [1, "NaN"] }, "series[0].values[1]", "double.finite", /finite/),
  "packed lists of different lengths": () =>
    badSeries({ offsetsMs: [0, 1] }, "series[0].values", "values.count", /1 entries, offsets_ms has 2/),
  "batch too large": () =>
    bad(
      writeSamples,
      packed({ offsetsMs: [0, 1, 2, 3, 4], values: [1, 2, 3, 4, 5] }),
      "samples",
      "repeated.max_items",
      /at most 4/,
    ),
  "U+0000 in a label": () => badSample({ labels: { room: nul } }, 'samples[0].labels["room"]', text, noNul),
  "U+0000 in a unit": () => badSample({ name: "size", unit: nul }, "samples[0].unit", text, noNul),
  "U+0000 in a store's name": () => bad(createStore, { name: nul }, "name", text, noNul),
  "store name that is taken": () => ({
    method: createStore,
    request: { name: "the store" },
    code: Code.AlreadyExists,
    reason: "ALREADY_EXISTS",
    metadata: { resource: "store", field: "name" },
    says: /'the store' already/,
  }),
});

const badCursor = (method: DescMethodUnary, request: JsonObject): Refusal => ({
  ...bad(method, request, "page_token", "cursor", /not a token of this query/),
  reason: "INVALID_CURSOR",
  metadata: { field: "page_token" },
  says: /^page_token is not a token of this query; leave it empty/,
});

runTable("queries", {
  "page too large": () => bad(listEvents, { pageSize: 1001 }, "page_size", "int32.gte_lte", /0 and .*1000/),
  "page token that is none": () => badCursor(listEvents, { pageToken: "abc" }),
  "page token of another query": async () =>
    badCursor(listStores, { pageToken: await pageToken(), nameContains: "x" }),
  "page token of another method": async () => badCursor(listSeries, { pageToken: await pageToken() }),
  "page token with a position that is none": async () => {
    using grpc = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    const ingestion = createClient(IngestionService, grpc.transport);
    await ingestion.ingestEvents({ events: [goodEvent, goodEvent] });
    const { nextPageToken } = await ingestion.listEvents({ pageSize: 1 });
    const [query] = JSON.parse(Buffer.from(nextPageToken, "base64url").toString());
    return badCursor(listEvents, {
      pageToken: Buffer.from(JSON.stringify([query, "nowhere"])).toString("base64url"),
    });
  },
  "start after end": () =>
    bad(
      querySamples,
      { start: nowPlusDays(0), end: nowPlusDays(-1) },
      "start",
      "range.order",
      /must lie before end/,
    ),
  "aggregation without a step": () =>
    bad(querySamples, { aggregation: "AGGREGATION_MAX" }, "step", "required", /is needed/),
  "unknown store": () => ({
    method: querySamples,
    request: { storeId: randomUUID() },
    code: Code.NotFound,
    reason: "NOT_FOUND",
    metadata: { resource: "store" },
    says: /no store/,
  }),
  "event that is not there": () => ({
    method: IngestionService.method.getEvent,
    request: { eventId: "nobody" },
    code: Code.NotFound,
    reason: "NOT_FOUND",
    metadata: { resource: "event", id: "nobody" },
    says: /no event 'nobody'/,
  }),
  "U+0000 in a filter": () => bad(listEvents, { filter: { userId: nul } }, "filter.user_id", text, noNul),
  "U+0000 in part of a name": () => bad(listStores, { nameContains: nul }, "name_contains", text, noNul),
  "range of events that no calendar has": () => {
    const message = create(ListEventsRequestSchema, { filter: { receivedFrom: noTime } });
    return bad(listEvents, [message], "filter.received_from", time, /must/);
  },
  "range of samples that no calendar has": () => {
    const message = create(QuerySamplesRequestSchema, { end: noTime });
    return bad(querySamples, [message], "end", time, /must/);
  },
});

describe("HTTP that is no call", () => {
  const url = () => `${server.url}/${ingestEvent.parent.typeName}/${ingestEvent.name}`;
  const headers = () => ({ "x-api-key": server.tenant.apiKey });
  const body = JSON.stringify({ event: goodEvent });

  for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/grpc+thrift"]) {
    test(`content type ${type}`, async () => {
      const stored = await countRows();
      const response = await fetch(url(), {
        method: "POST",
        headers: { ...headers(), "content-type": type },
        body,
      });
      assert.equal(response.status, 415);
      assert.match(response.headers.get("accept-post") ?? "", /application\/json/);
      assert.match(await response.text(), /does not take content-type .*use application\/json/);
      assert.deepEqual(await countRows(), stored);
    });
  }
  for (const method of ["GET", "PUT", "PATCH", "DELETE"]) {
    test(`method ${method}`, async () => {
      const response = await fetch(url(), { method, headers: headers() });
      assert.equal(response.status, 405);
      assert.equal(response.headers.get("allow"), "POST");
      assert.match(await response.text(), new RegExp(`is called with POST, not ${method}`));
    });
  }
  test("a path where nothing is", async () => {
    const response = await fetch(`${server.url}/v2/nothing`, { method: "POST", body });
    assert.equal(response.status, 404);
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    assert.match(await response.text(), /nothing is served here/);
  });
});

/** Whether odd input is taken or refused, it must not stand in the way of the rest. */
describe("an odd event spoils no answer", () => {
  const odd: Record<string, JsonObject> = {
    "U+0000 in the payload": { event: { ...goodEvent, payload: { text: nul } } },
    "U+0000 in the source": { event: { ...goodEvent, source: { service: nul } } },
    "a clock that moves it past the year 9999": {
      event: { ...goodEvent, timestamp: "9999-12-31T00:00:00Z" },
      sentAt: "1970-01-02T00:00:00Z",
    },
    "a clock that moves it before the year 1": {
      event: { ...goodEvent, timestamp: "1970-01-02T00:00:00Z" },
      sentAt: "9999-12-31T00:00:00Z",
    },
  };
  for (const [name, request] of Object.entries(odd)) {
    test(name, async () => {
      const { apiKey } = await server.register(`odd-${randomUUID().slice(0, 8)}`);
      const call = async (method: DescMethodUnary, body: JsonObject) =>
        await fetch(`${server.url}/${method.parent.typeName}/${method.name}`, {
          method: "POST",
          headers: { "x-api-key": apiKey, "content-type": "application/json" },
          body: JSON.stringify(body),
        });
      const taken = await call(ingestEvent, request);
      assert.ok(taken.status === 200 || taken.status === 400, String(taken.status));
      const good = await call(ingestEvent, { event: { ...goodEvent, source: { service: "shop" } } });
      assert.equal(good.status, 200);
      for (const [filter, count] of [
        [{}, taken.ok ? 2 : 1],
        [{ sourceService: "shop" }, 1],
      ] as const) {
        const listed = await call(listEvents, { filter });
        const answer = (await listed.json()) as { events?: unknown[]; message?: string };
        assert.equal(answer.events?.length, count, answer.message ?? "");
      }
    });
  }
});
