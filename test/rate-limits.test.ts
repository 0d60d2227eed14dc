import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { envToConfig } from "../server/src/config/config.ts";
import { RetryInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { createPaceKeeper } from "../server/src/rpc/pace.ts";
import { createLocalWindows, createRedisWindows } from "../server/src/rpc/rate-windows.ts";
import { createTestDatabase, type TestDatabase, testLogger } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { redisIsMissing, startRedis } from "./helpers/redis.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

const withKey = (key: string) => ({ headers: { "x-api-key": key } });
/** Of another account each time, so that none is locked. */
const wrongLogin = () => ({ email: `${randomUUID()}@b.example`, password: "wrong", tenantSlug: "nobody" });

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  return await call.then(
    () => assert.fail("answered"),
    (error: unknown) => ConnectError.from(error),
  );
}

/** Calls in JSON over HTTP/1.1. */
async function callJson(url: string, method: string, body: object, headers: Record<string, string> = {}) {
  const response = await fetch(`${url}/pulsewire.auth.v1.AuthService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** The parameters of a header such as `"tenant";r=3;t=60, "api-key";r=1;t=60`, by name. */
function standing(headers: Headers, name: "ratelimit" | "ratelimit-policy") {
  return Object.fromEntries(
    (headers.get(name) ?? "")
      .split(", ")
      .filter(Boolean)
      .map((item) => {
        const [policy = "", ...parameters] = item.split(";");
        assert.match(policy, /^"[a-z-]+"$/);
        const values = parameters.map((parameter) => {
          assert.match(parameter, /^[qwrt]=\d+$/);
          const [key = "", value] = parameter.split("=");
          return [key, Number(value)];
        });
        return [policy.slice(1, -1), Object.fromEntries(values)];
      }),
  );
}

describe("the limit of open calls for an address", () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database.drop());

  test("is 100 a minute by default", () => {
    assert.equal(envToConfig({}).auth.callsPerMinute, 100);
  });

  test("counts all of them together, says where one stands, and refuses the rest", async () => {
    await using server = await serve(database, { PULSEWIRE_AUTH_RATE_LIMIT: "5" });
    using session = grpcSession(server.url);
    const auth = createClient(AuthService, session.transport);
    for (let left = 4; left >= 1; left--) {
      const { metadata, code } = await failureOf(auth.login(wrongLogin()));
      assert.equal(code, Code.Unauthenticated);
      assert.deepEqual(standing(metadata, "ratelimit-policy"), { "auth-address": { q: 5, w: 60 } });
      const { r, t } = standing(metadata, "ratelimit")["auth-address"];
      assert.equal(r, left);
      assert.ok(t > 0 && t <= 60);
    }
    const registration = { name: "Acme", slug: "acme", contactEmail: "owner@acme.example" };
    const answered = await callJson(server.url, "RegisterTenant", registration);
    assert.equal(answered.status, 200);
    assert.equal(standing(answered.headers, "ratelimit")["auth-address"].r, 0);

    const { metadata: said } = await assertFails(
      auth.login(wrongLogin()),
      Code.ResourceExhausted,
      "RATE_LIMITED",
    );
    assert.deepEqual(said, { limit: "auth-address" });
    const refused = await failureOf(auth.refreshToken({ refreshToken: "x" }));
    assert.equal(refused.code, Code.ResourceExhausted);
    const [retry] = refused.findDetails(RetryInfoSchema);
    const delay = retry?.retryDelay ? durationMs(retry.retryDelay) : 0;
    assert.ok(delay > 50_000 && delay <= 60_000, `${delay}`);
    assert.equal(refused.metadata.get("retry-after"), String(Math.ceil(delay / 1_000)));
    assert.equal(standing(refused.metadata, "ratelimit")["auth-address"].r, 0);
    const inJson = await callJson(server.url, "Login", wrongLogin());
    assert.equal(inJson.status, 429);
    assert.equal(inJson.body.code, "resource_exhausted");
    assert.ok(Number(inJson.headers.get("retry-after")) > 50);
    assert.deepEqual(standing(inJson.headers, "ratelimit-policy"), { "auth-address": { q: 5, w: 60 } });
  });

  test("holds under parallel calls, and for the password check of who is signed in", async () => {
    await using server = await serve(database, { PULSEWIRE_AUTH_RATE_LIMIT: "10" });
    using session = grpcSession(server.url);
    const auth = createClient(AuthService, session.transport);
    const codes = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => {
        const call =
          i % 2
            ? auth.login(wrongLogin())
            : auth.changePassword({ currentPassword: "x", newPassword: "long enough" });
        return (await failureOf(call)).code;
      }),
    );
    assert.equal(codes.filter((code) => code === Code.Unauthenticated).length, 10);
    assert.equal(codes.filter((code) => code === Code.ResourceExhausted).length, 30);
  });

  test("leaves other calls alone, and can be switched off", async () => {
    await using server = await startTestServer({ PULSEWIRE_AUTH_RATE_LIMIT: "0" });
    using session = grpcSession(server.url);
    const auth = createClient(AuthService, session.transport);
    const { metadata } = await failureOf(auth.login(wrongLogin()));
    assert.equal(metadata.get("ratelimit"), null);
    await using limited = await serve(server.database, { PULSEWIRE_AUTH_RATE_LIMIT: "1" });
    using there = grpcSession(limited.url);
    const client = createClient(AuthService, there.transport);
    await failureOf(client.login(wrongLogin()));
    for (let i = 0; i < 5; i++) await client.getMe({}, withKey(server.tenant.apiKey));
    await assertFails(client.login(wrongLogin()), Code.ResourceExhausted, "RATE_LIMITED");
  });

  test("is for the client behind a trusted proxy, whom nobody else can name", async () => {
    await using server = await serve(database, {
      PULSEWIRE_AUTH_RATE_LIMIT: "2",
      PULSEWIRE_TRUSTED_PROXIES: "127.0.0.0/8, 10.0.0.0/8",
    });
    const from = async (header: Record<string, string>) =>
      (await callJson(server.url, "Login", wrongLogin(), header)).status;
    const first = { "x-forwarded-for": "192.0.2.1" };
    assert.deepEqual([await from(first), await from(first), await from(first)], [401, 401, 429]);
    // Another client, also through a second proxy.
    assert.equal(await from({ "x-forwarded-for": "192.0.2.2, 10.1.2.3" }), 401);
    // What the client put before its own address changes nothing.
    assert.equal(await from({ "x-forwarded-for": "198.51.100.7, 192.0.2.1" }), 429);
    assert.equal(await from({ "x-forwarded-for": "10.0.0.1, 192.0.2.1" }), 429);
    // The header that the proxies do not write is not looked at.
    assert.equal(await from({ ...first, forwarded: "for=198.51.100.8" }), 429);

    await using direct = await serve(database, { PULSEWIRE_AUTH_RATE_LIMIT: "2" });
    const statuses = [];
    for (let i = 0; i < 4; i++) {
      const { status } = await callJson(direct.url, "Login", wrongLogin(), {
        "x-forwarded-for": `192.0.2.${i}`,
        forwarded: `for=192.0.2.${i}`,
        "x-real-ip": `192.0.2.${i}`,
      });
      statuses.push(status);
    }
    assert.deepEqual(statuses, [401, 401, 429, 429]);
  });
});

describe("the limits of keys and tenants", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  let ingestion: Client<typeof IngestionService>;
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
  const owner = () => ({ headers: { authorization: `Bearer ${server.tenant.token}` } });
  const makeKey = async (requestsPerMinute: number) => {
    const scopes = [Scope.EVENTS_READ, Scope.EVENTS_WRITE];
    const { secret } = await auth.createApiKey({ name: "limited", requestsPerMinute, scopes }, owner());
    return secret;
  };
  /** Sets the tenant's limit as a platform admin would. */
  const limitTenant = async (tenantId: string, requestsPerMinute: number | undefined) => {
    const limits = requestsPerMinute === undefined ? {} : { requestsPerMinute: String(requestsPerMinute) };
    await server.database.superuser.query("update tenants set limits = $2 where id = $1", [
      tenantId,
      JSON.stringify(limits),
    ]);
    await server.context.bus.publish("tenants", JSON.stringify({ tenantId }));
    const inForce = () => server.context.tenantSettings.load(tenantId);
    while (Number((await inForce())?.limits.requestsPerMinute) !== (requestsPerMinute ?? 0)) await sleep(5);
  };

  test("without a limit there is no header, also before a server knows that there is none", async () => {
    await using other = await serve(server.database);
    for (const url of [other.url, other.url, server.url]) {
      const answer = await callJson(url, "GetMe", {}, { "x-api-key": server.tenant.apiKey });
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get("ratelimit"), null);
      assert.equal(answer.headers.get("ratelimit-policy"), null);
    }
  });

  test("a key's calls of all methods count together, those of other keys apart", async () => {
    const [limited, other] = [await makeKey(4), await makeKey(4)];
    await ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(limited));
    await ingestion.listEvents({}, withKey(limited));
    // Refused calls count as well.
    await assertFails(auth.listApiKeys({}, withKey(limited)), Code.PermissionDenied, "MISSING_SCOPE");
    const fourth = await callJson(server.url, "GetMe", {}, { "x-api-key": limited });
    assert.deepEqual(standing(fourth.headers, "ratelimit-policy"), { "api-key": { q: 4, w: 60 } });
    assert.equal(standing(fourth.headers, "ratelimit")["api-key"].r, 0);
    const refused = ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(limited));
    const { metadata, retries } = await assertFails(refused, Code.ResourceExhausted, "RATE_LIMITED");
    assert.deepEqual(metadata, { limit: "api-key" });
    assert.ok(retries);
    assert.equal((await callJson(server.url, "GetMe", {}, { "x-api-key": limited })).status, 429);
    await ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(other));
  });

  test("exactly as many calls as allowed are answered, however they arrive", async () => {
    const key = await makeKey(50);
    const answers = await Promise.allSettled(
      Array.from({ length: 200 }, () => ingestion.ingestEvent({ event: { eventType: "a" } }, withKey(key))),
    );
    assert.equal(answers.filter(({ status }) => status === "fulfilled").length, 50);
    const { rows } = await server.database.superuser.query(
      "select count(*)::int as n from events where tenant_id = $1",
      [server.tenant.tenantId],
    );
    assert.ok(rows[0].n <= 60);
  });

  test("a tenant's people and keys count together; a change of the limit counts at once", async () => {
    const tenant = await server.register("narrow");
    const bearer = { headers: { authorization: `Bearer ${tenant.token}` } };
    await auth.getMe({}, bearer);
    await limitTenant(tenant.tenantId, 3);
    await auth.getMe({}, bearer);
    await auth.getMe({}, withKey(tenant.apiKey));
    const third = await callJson(server.url, "GetMe", {}, { "x-api-key": tenant.apiKey });
    assert.deepEqual(standing(third.headers, "ratelimit-policy"), { tenant: { q: 3, w: 60 } });
    for (const who of [bearer, withKey(tenant.apiKey)]) {
      const { metadata } = await assertFails(auth.getMe({}, who), Code.ResourceExhausted, "RATE_LIMITED");
      assert.deepEqual(metadata, { limit: "tenant" });
    }
    await auth.getMe({}, withKey(server.tenant.apiKey));
    await limitTenant(tenant.tenantId, undefined);
    await auth.getMe({}, bearer);
  });

  test("where a key and its tenant are limited, answers tell of both, and what the key is refused does not count", async () => {
    const tenant = await server.register("both");
    const bearer = { headers: { authorization: `Bearer ${tenant.token}` } };
    const { secret } = await auth.createApiKey({ name: "k", requestsPerMinute: 2 }, bearer);
    await limitTenant(tenant.tenantId, 5);
    await auth.getMe({}, withKey(secret));
    const second = await callJson(server.url, "GetMe", {}, { "x-api-key": secret });
    const now = standing(second.headers, "ratelimit");
    assert.deepEqual([now["api-key"].r, now.tenant.r], [0, 3]);
    for (let i = 0; i < 10; i++) {
      await assertFails(auth.getMe({}, withKey(secret)), Code.ResourceExhausted, "RATE_LIMITED");
    }
    const third = await callJson(server.url, "GetMe", {}, bearer.headers);
    assert.equal(standing(third.headers, "ratelimit").tenant.r, 2);
  });

  test("of many calls a minute only a part is answered at once; what is refused so does not count", async () => {
    const tenant = await server.register("bursty");
    await limitTenant(tenant.tenantId, 1_200);
    const headers = withKey(tenant.apiKey);
    const started = performance.now();
    const answers = await Promise.allSettled(Array.from({ length: 400 }, () => auth.getMe({}, headers)));
    const answered = answers.filter(({ status }) => status === "fulfilled").length;
    // While they arrive there is room for a few more.
    const most = 101 + ((performance.now() - started) * 1_200) / 60_000;
    assert.ok(answered >= 100 && answered <= most, String(answered));
    const refused = answers.find(({ status }) => status === "rejected") as PromiseRejectedResult;
    const { metadata, retries } = await assertFails(
      Promise.reject(refused.reason),
      Code.ResourceExhausted,
      "RATE_LIMITED",
    );
    assert.deepEqual([metadata, retries], [{ limit: "tenant" }, true]);
    const error = refused.reason as ConnectError;
    assert.match(error.rawMessage, /^more than 100 calls of this tenant at once, of 1200 in a minute;/);
    assert.equal(error.metadata.get("retry-after"), "1");
    assert.deepEqual(standing(error.metadata, "ratelimit-policy"), { "tenant-burst": { q: 100, w: 5 } });
    assert.deepEqual(standing(error.metadata, "ratelimit"), { "tenant-burst": { r: 0, t: 1 } });
    await sleep(200);
    const later = await callJson(server.url, "GetMe", {}, headers.headers);
    assert.equal(later.status, 200);
    assert.deepEqual(standing(later.headers, "ratelimit-policy"), {
      tenant: { q: 1_200, w: 60 },
      "tenant-burst": { q: 100, w: 5 },
    });
    assert.equal(standing(later.headers, "ratelimit").tenant.r, 1_200 - answered - 1);
  });

  test("one error answers several calls; what one of them adds to it, the others do not get", async () => {
    const tenant = await server.register("hasty");
    await limitTenant(tenant.tenantId, 101);
    const headers = withKey(tenant.apiKey);
    const refused = async (call: Promise<unknown>) => {
      const { reason } = (await Promise.allSettled([call]))[0] as PromiseRejectedResult;
      return String((reason as ConnectError | undefined)?.metadata.get("ratelimit-policy")).match(
        /"[\w-]+"/g,
      );
    };
    await Promise.all(Array.from({ length: 100 }, () => auth.getMe({}, headers)));
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await refused(auth.changePassword({}, headers)), ['"tenant-burst"', '"auth-address"']);
      assert.deepEqual(await refused(auth.getMe({}, headers)), ['"tenant-burst"']);
    }
  });

  test("the server's default is a tenant's limit where none is set", async () => {
    await using narrow = await serve(server.database, { PULSEWIRE_TENANT_LIMITS: "requests_per_minute=1" });
    using there = grpcSession(narrow.url);
    const client = createClient(AuthService, there.transport);
    await client.getMe({}, withKey(server.tenant.apiKey));
    const refused = client.getMe({}, withKey(server.tenant.apiKey));
    await assertFails(refused, Code.ResourceExhausted, "RATE_LIMITED");
  });
});

describe("the pace", () => {
  test("of few calls a minute is any; of many it is theirs, after a burst of five seconds or a hundred", () => {
    let now = 1_000;
    const paces = createPaceKeeper(10, () => now);
    assert.equal(paces.take("few", 100), undefined);
    const taken = (quota: number) => {
      let count = 0;
      while ((paces.take(`of ${quota}`, quota)?.left ?? 0) >= 0) count++;
      return count;
    };
    assert.deepEqual([taken(600), taken(6_000)], [100, 500]);
    assert.deepEqual([taken(600), taken(6_000)], [0, 0]);
    now += 1_000;
    assert.deepEqual([taken(600), taken(6_000)], [10, 100]);
    now += 60_000;
    assert.deepEqual([taken(600), taken(6_000)], [100, 500]);
    assert.deepEqual(paces.take("of 600", 600), { burst: 100, windowMs: 10_000, left: -1, waitMs: 100 });
  });
});

describe("windows", () => {
  test("in this process begin anew when they end, and are bounded", async () => {
    const windows = createLocalWindows({ maxNames: 3, windowMs: 80 });
    const count = async (name: string) => (await windows.count(name)).calls;
    assert.deepEqual([await count("a"), await count("a"), await count("b")], [1, 2, 1]);
    while ((await windows.count("a")).calls !== 1) await sleep(5);
    for (const name of ["b", "c", "d"]) await windows.count(name);
    assert.equal(await count("a"), 1, "the one longest unused is forgotten");
  });

  const missing = redisIsMissing();
  test("in Redis are those of all processes, and each counts by itself while Redis is away", async (t) => {
    const reason = await missing;
    if (reason) return t.skip(reason);
    await using redis = await startRedis();
    const logged: string[] = [];
    const logger = testLogger.child({}, { level: "info" });
    for (const level of ["warn", "info"] as const) {
      logger[level] = ((...args: unknown[]) => void logged.push(String(args.at(-1)))) as typeof logger.info;
    }
    const options = { maxNames: 100, windowMs: 2_000 };
    const first = await createRedisWindows(redis.url, logger, options);
    const second = await createRedisWindows(redis.url, logger, options);
    try {
      const calls = await Promise.all(
        Array.from({ length: 40 }, async (_, i) => (await (i % 2 ? first : second).count("a")).calls),
      );
      assert.deepEqual(
        calls.sort((a, b) => a - b),
        Array.from({ length: 40 }, (_, i) => i + 1),
      );
      const { resetMs } = await first.count("a");
      assert.ok(resetMs > 0 && resetMs <= 2_000);
      while ((await first.count("a")).calls !== 1) await sleep(20);

      await redis.down();
      const started = performance.now();
      const alone = [];
      for (let i = 0; i < 50; i++) alone.push((await first.count("b")).calls);
      assert.deepEqual(
        alone,
        Array.from({ length: 50 }, (_, i) => i + 1),
      );
      assert.ok(performance.now() - started < 1_000, "calls do not wait for Redis");
      assert.equal(logged.filter((line) => line.startsWith("Redis is away")).length, 1);
      await redis.up();
      while (!logged.includes("calls are counted in Redis again")) {
        await first.count("c");
        await sleep(20);
      }

      process.kill(redis.pid, "SIGSTOP");
      const frozen = performance.now();
      for (let i = 0; i < 50; i++) await second.count("d");
      process.kill(redis.pid, "SIGCONT");
      assert.ok(performance.now() - frozen < 2_500, "nor when it does not answer");
    } finally {
      first.close();
      second.close();
    }
  });

  test("of servers that share a Redis are one", async (t) => {
    const reason = await missing;
    if (reason) return t.skip(reason);
    await using redis = await startRedis();
    await using database = await createTestDatabase();
    const settings = { REDIS_URL: redis.url, PULSEWIRE_AUTH_RATE_LIMIT: "6" };
    await using first = await serve(database, settings);
    await using second = await serve(database, settings);
    const statuses = [];
    for (let i = 0; i < 10; i++) {
      const { url } = i % 2 ? first : second;
      statuses.push((await callJson(url, "Login", wrongLogin())).status);
    }
    assert.deepEqual(statuses, [401, 401, 401, 401, 401, 401, 429, 429, 429, 429]);
    await redis.down();
    assert.equal((await callJson(first.url, "Login", wrongLogin())).status, 401, "Redis away closes nothing");
  });
});
