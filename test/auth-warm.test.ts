import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, createClient } from "@connectrpc/connect";
import { isApiKeyShaped, newApiKey } from "../server/src/auth/keys/secret.ts";
import { Health } from "../server/src/gen/grpc/health/v1/health_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { type QueryRelay, startQueryRelay } from "./helpers/query-relay.ts";
import { grpcSession, serve, settingsFor, startTestServer, type TestServer } from "./helpers/server.ts";

const useIntervalMs = 1_000;

/** A server whose every statement is seen on its way to the database. */
async function serveSeen(server: TestServer, settings: Record<string, string>) {
  await using undo = new AsyncDisposableStack();
  const relay = undo.use(await startQueryRelay(settingsFor(server.database).DATABASE_URL ?? ""));
  const seen = undo.use(
    await serve(server.database, {
      ...settings,
      DATABASE_URL: relay.url,
      PULSEWIRE_ROLE: "api",
      // Usage is written after the tests.
      PULSEWIRE_USAGE_INTERVAL: "60",
    }),
  );
  const session = undo.use(grpcSession(seen.url));
  const open = undo.move();
  return {
    url: seen.url,
    relay,
    health: createClient(Health, session.transport),
    metrics: createClient(MetricsService, session.transport),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

/** The bus asks whether it is still connected. */
const isHeartbeat = (text: string) => text === "select";

const lastOf = ({ statements }: QueryRelay) => statements.findLast((text) => !isHeartbeat(text));

/** What was sent while something ran. */
async function statementsOf({ statements }: QueryRelay, run: () => Promise<unknown>): Promise<string[]> {
  const from = statements.length;
  await run();
  return statements.slice(from).filter((text) => !isHeartbeat(text));
}

async function times(count: number, call: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count; i++) await call();
}

const together = (count: number, call: () => Promise<unknown>) =>
  Promise.all(Array.from({ length: count }, () => call()));

const lastUseWrites = (statements: readonly string[]) =>
  statements.filter((text) => text.includes("update api_keys set last_used_at"));

describe("once warm", () => {
  let server: TestServer;
  let seen: Awaited<ReturnType<typeof serveSeen>>;
  let credentials: Record<string, string>[];

  before(async () => {
    server = await startTestServer({ PULSEWIRE_ROLE: "api" });
    // The last use of keys is written after the tests.
    seen = await serveSeen(server, { PULSEWIRE_API_KEY_USE_INTERVAL: "60" });
    credentials = [
      { "x-api-key": server.tenant.apiKey },
      { authorization: `Bearer ${server.tenant.apiKey}` },
      { authorization: `Bearer ${server.tenant.token}` },
    ];
  });
  after(async () => {
    await seen[Symbol.asyncDispose]();
    await server.stop();
  });

  const makeKey = async (request: { name: string; requestsPerMinute?: number }) => {
    using session = grpcSession(server.url, { authorization: `Bearer ${server.tenant.token}` });
    const auth = createClient(AuthService, session.transport);
    return (await auth.createApiKey({ scopes: [Scope.METRICS_READ], ...request })).secret;
  };
  const checkJson = async (headers: Record<string, string>) => {
    const response = await fetch(`${seen.url}/grpc.health.v1.Health/Check`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: "{}",
    });
    await response.text();
    return response.status;
  };

  test("knowing the caller of a key or a token costs no query, in gRPC and in JSON", async () => {
    for (const headers of credentials) {
      const first = await statementsOf(seen.relay, () => seen.health.check({}, { headers }));
      const isKnown = headers === credentials[1];
      assert.equal(first.length > 0, !isKnown, "what is seen on the way is what the server asks");
      const warm = await statementsOf(seen.relay, async () => {
        await times(200, () => seen.health.check({}, { headers }));
        await together(50, () => seen.health.check({}, { headers }));
        await times(50, async () => assert.equal(await checkJson(headers), 200));
      });
      assert.deepEqual(warm, []);
    }
  });

  test("calls with a new key that arrive together share one look-up", async () => {
    const headers = { "x-api-key": await makeKey({ name: "new" }) };
    const cold = await statementsOf(seen.relay, () => together(50, () => seen.health.check({}, { headers })));
    assert.equal(cold.filter((text) => text.includes('from "api_keys"')).length, 1, cold.join("\n"));
  });

  test("a misspelt key costs no query, an unknown one a single look-up", async () => {
    const unknown = newApiKey();
    const misspelt = `${unknown.slice(0, 9)}${unknown[9] === "A" ? "B" : "A"}${unknown.slice(10)}`;
    assert.ok(!isApiKeyShaped(misspelt));
    const refused = (key: string) => async () => {
      const call = seen.health.check({}, { headers: { "x-api-key": key } });
      await assertFails(call, Code.Unauthenticated, "INVALID_API_KEY");
      assert.equal(await checkJson({ "x-api-key": key }), 401);
    };
    assert.deepEqual(await statementsOf(seen.relay, () => times(50, refused(misspelt))), []);
    const asked = await statementsOf(seen.relay, () => times(50, refused(unknown)));
    assert.equal(asked.filter((text) => text.includes('from "api_keys"')).length, 1, asked.join("\n"));
  });

  test("a read costs its own query and nothing for limits, request ids and the audit log", async () => {
    const { superuser } = server.database;
    const limits = JSON.stringify({ requestsPerMinute: "1000000" });
    await superuser.query("update tenants set limits = $1 where id = $2", [limits, server.tenant.tenantId]);
    // A server of its own, which has read the tenant's limits after they were set.
    await using limited = await serveSeen(server, { PULSEWIRE_API_KEY_USE_INTERVAL: "60" });
    const apiKey = await makeKey({ name: "limited", requestsPerMinute: 1_000_000 });
    const calls = 100;
    for (const given of [{ "x-api-key": apiKey }, { authorization: `Bearer ${server.tenant.token}` }]) {
      const headers = { ...given, "idempotency-key": "read again and again" };
      const policies: string[] = [];
      const list = () =>
        limited.metrics.listStores(
          {},
          { headers, onHeader: (answer) => policies.push(answer.get("ratelimit-policy") ?? "") },
        );
      await list();
      const one = await statementsOf(limited.relay, list);
      const all = await statementsOf(limited.relay, () => times(calls, list));
      assert.deepEqual(all, Array.from({ length: calls }, () => one).flat());
      const tables = one.flatMap((text) => /\b(?:from|into|update) "?(\w+)/.exec(text)?.[1] ?? []);
      assert.deepEqual(tables, ["stores"]);
      assert.match(policies.at(-1) ?? "", /"tenant";q=1000000;w=60/);
    }
  });
});

test("the last uses of keys are written once in an interval, however many calls there are", async () => {
  await using server = await startTestServer({ PULSEWIRE_ROLE: "api" });
  await using seen = await serveSeen(server, {
    PULSEWIRE_API_KEY_USE_INTERVAL: String(useIntervalMs / 1_000),
  });
  using session = grpcSession(server.url, { authorization: `Bearer ${server.tenant.token}` });
  const auth = createClient(AuthService, session.transport);
  const keys = await Promise.all(
    ["a", "b", "c"].map(async (name) => {
      const { apiKey, secret } = await auth.createApiKey({ name });
      return { id: apiKey?.id, secret };
    }),
  );
  const callAll = () =>
    Promise.all(keys.map(({ secret }) => seen.health.check({}, { headers: { "x-api-key": secret } })));
  await callAll();

  const started = performance.now();
  let calls = 0;
  const statements = await statementsOf(seen.relay, async () => {
    while (lastUseWrites(seen.relay.statements).length < 3) {
      await callAll();
      calls += keys.length;
      assert.ok(performance.now() - started < 30_000, "not written");
    }
  });
  const intervals = (performance.now() - started) / useIntervalMs;
  const writes = lastUseWrites(statements).length;
  assert.ok(writes <= intervals + 1, `${writes} writes in ${intervals} intervals`);
  assert.ok(calls > 20 * writes, `${calls} calls`);
  const others = statements.filter(
    (text) => !/^(begin|commit|select set_config\(|\s*update api_keys)/.test(text),
  );
  assert.deepEqual(others, []);
  const { rows } = await server.database.superuser.query(
    "select last_used_address from api_keys where id = any($1)",
    [keys.map(({ id }) => id)],
  );
  assert.deepEqual(
    rows.map(({ last_used_address }) => last_used_address),
    ["127.0.0.1", "127.0.0.1", "127.0.0.1"],
  );

  // What is still noted is written, and then nothing: keys that are not used are not written.
  await callAll();
  const before = lastUseWrites(seen.relay.statements).length;
  const isWritten = () =>
    lastUseWrites(seen.relay.statements).length > before && lastOf(seen.relay) === "commit";
  while (!isWritten()) await sleep(10);
  const idle = await statementsOf(seen.relay, () => sleep(2 * useIntervalMs));
  assert.deepEqual(idle, []);
});
