import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import fc from "fast-check";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { MetricsService } from "../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

describe("a request id", () => {
  let server: TestServer;
  let other: Awaited<ReturnType<typeof serve>>;
  let sessions: ReturnType<typeof grpcSession>[];
  let auth: Client<typeof AuthService>;
  let authElsewhere: Client<typeof AuthService>;
  let metrics: Client<typeof MetricsService>;
  let anonymous: Client<typeof AuthService>;
  let ingestion: Client<typeof IngestionService>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_IDEMPOTENCY_LEASE: "2" });
    other = await serve(server.database, { PULSEWIRE_IDEMPOTENCY_LEASE: "2" });
    const credentials = { "x-api-key": server.tenant.apiKey };
    sessions = [
      grpcSession(server.url, credentials),
      grpcSession(other.url, credentials),
      grpcSession(server.url),
    ];
    const [here, elsewhere, bare] = sessions.map(({ transport }) => transport);
    assert.ok(here && elsewhere && bare);
    anonymous = createClient(AuthService, bare);
    auth = createClient(AuthService, here);
    authElsewhere = createClient(AuthService, elsewhere);
    metrics = createClient(MetricsService, here);
    ingestion = createClient(IngestionService, here);
  });
  after(async () => {
    for (const session of sessions) session[Symbol.dispose]();
    await other[Symbol.asyncDispose]();
    await server.stop();
  });

  const withHeader = (key: string): CallOptions => ({ headers: { "idempotency-key": key } });
  /** Options that note whether the answer was a kept one. */
  const noting = () => {
    const noted = { replayed: false };
    const onHeader = (header: Headers) => {
      noted.replayed = header.get("idempotent-replayed") === "true";
    };
    return { noted, onHeader };
  };
  const countKeys = async (name: string) => {
    const { rows } = await server.database.superuser.query("select from api_keys where name = $1", [name]);
    return rows.length;
  };
  const countRows = async () => {
    const { rows } = await server.database.superuser.query("select count(*)::int as n from idempotency_keys");
    return rows[0].n as number;
  };

  test("gives the same answer again, secret included, and takes effect once", async () => {
    const request = { name: "same", requestId: randomUUID() };
    const first = await auth.createApiKey(request);
    const { noted, onHeader } = noting();
    const again = await auth.createApiKey(request, { onHeader });
    assert.deepEqual(again, first);
    assert.equal(noted.replayed, true);
    assert.equal(await countKeys("same"), 1);
    const elsewhere = await authElsewhere.createApiKey({
      ...request,
      requestId: request.requestId.toUpperCase(),
    });
    assert.equal(elsewhere.secret, first.secret);
  });

  test("may come as a header, quoted or not, and is the same as in the field", async () => {
    const key = randomUUID();
    const first = await auth.createApiKey({ name: "header" }, withHeader(key));
    assert.deepEqual(await auth.createApiKey({ name: "header" }, withHeader(`"${key}"`)), first);
    assert.deepEqual(await auth.createApiKey({ name: "header", requestId: key }), first);
    assert.deepEqual(await auth.createApiKey({ name: "header", requestId: key }, withHeader(key)), first);
    assert.equal(await countKeys("header"), 1);
    const short = await auth.createApiKey({ name: "short" }, withHeader("job-7"));
    assert.deepEqual(await auth.createApiKey({ name: "short" }, withHeader("job-7")), short);
  });

  test("is refused where header and field disagree or the header is no key", async () => {
    const request = { name: "never", requestId: randomUUID() };
    const disagreeing = auth.createApiKey(request, withHeader(randomUUID()));
    const { fields } = await assertFails(disagreeing, Code.InvalidArgument, "INVALID_FIELD");
    assert.deepEqual(fields, ["request_id"]);
    for (const key of ["two words", '""', "x".repeat(256)]) {
      const call = auth.createApiKey({ name: "never" }, withHeader(key));
      assert.deepEqual((await assertFails(call, Code.InvalidArgument, "INVALID_FIELD")).fields, [
        "idempotency-key",
      ]);
    }
    assert.equal(await countKeys("never"), 0);
  });

  test("works the same in Connect JSON over HTTP/1.1, and across protocols", async () => {
    const requestId = randomUUID();
    const post = async (body: object, headers: Record<string, string> = {}) => {
      const response = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/CreateApiKey`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": server.tenant.apiKey, ...headers },
        body: JSON.stringify(body),
      });
      return { status: response.status, headers: response.headers, body: await response.json() };
    };
    const first = await post({ name: "json", requestId });
    assert.equal(first.status, 200);
    assert.equal(first.headers.get("idempotent-replayed"), null);
    const again = await post({ name: "json" }, { "idempotency-key": requestId });
    assert.equal(again.headers.get("idempotent-replayed"), "true");
    assert.deepEqual(again.body, first.body);
    assert.equal((await auth.createApiKey({ name: "json", requestId })).secret, first.body.secret);
    const changed = await post({ name: "other", requestId });
    assert.equal(changed.status, 409);
    assert.equal(changed.body.details[0].debug.reason, "CONFLICT");
  });

  test("with another content is a conflict, with the entries of a map in another order it is not", async () => {
    const requestId = randomUUID();
    await auth.createApiKey({ name: "content", requestId });
    const changed = auth.createApiKey({ name: "changed", requestId });
    const { metadata } = await assertFails(changed, Code.AlreadyExists, "CONFLICT");
    assert.deepEqual(metadata, { id: requestId });
    assert.equal(await countKeys("changed"), 0);

    const store = { name: "map", requestId: randomUUID() };
    const first = await metrics.createStore({ ...store, labels: { a: "1", b: "2" } });
    assert.deepEqual(await metrics.createStore({ ...store, labels: { b: "2", a: "1" } }), first);
  });

  test("belongs to tenant, caller and method", async () => {
    const requestId = randomUUID();
    const stranger = await server.register("stranger");
    const { secret } = await auth.createApiKey({ name: "scope", requestId });
    const asStranger = await anonymous.createApiKey(
      { name: "x", requestId },
      { headers: { "x-api-key": stranger.apiKey } },
    );
    assert.notEqual(asStranger.secret, secret);
    const asOwner = await anonymous.createApiKey(
      { name: "scope", requestId },
      { headers: { authorization: `Bearer ${server.tenant.token}` } },
    );
    assert.notEqual(asOwner.secret, secret);
    const store = await metrics.createStore({ name: "scope", requestId });
    assert.equal(store.store?.name, "scope");
  });

  test("is not used up by an error", async () => {
    const requestId = randomUUID();
    await metrics.createStore({ name: "taken" });
    await assertFails(
      metrics.createStore({ name: "taken", requestId }),
      Code.AlreadyExists,
      "ALREADY_EXISTS",
    );
    await assertFails(metrics.createStore({ name: "", requestId }), Code.InvalidArgument, "INVALID_FIELD");
    await server.database.superuser.query("update stores set name = 'free' where name = 'taken'");
    assert.equal((await metrics.createStore({ name: "taken", requestId })).store?.name, "taken");
  });

  test("is not looked at before the credentials are", async () => {
    const requestId = randomUUID();
    await auth.createApiKey({ name: "auth", requestId });
    const call = anonymous.createApiKey(
      { name: "auth", requestId },
      { headers: { "x-api-key": `${server.tenant.apiKey.slice(0, -1)}_` } },
    );
    await assertFails(call, Code.Unauthenticated, "INVALID_API_KEY");
  });

  test("works before there is a caller, where it must not be guessable", async () => {
    const request = { name: "R", slug: "registered", contactEmail: "a@registered.example" };
    const weak = anonymous.registerTenant(request, withHeader("1"));
    assert.deepEqual((await assertFails(weak, Code.InvalidArgument, "INVALID_FIELD")).fields, [
      "idempotency-key",
    ]);
    const requestId = randomUUID();
    const first = await anonymous.registerTenant({ ...request, requestId });
    const again = await anonymous.registerTenant({ ...request, requestId });
    assert.equal(again.temporaryPassword, first.temporaryPassword);
    assert.equal(again.tenant?.id, first.tenant?.id);
    const changed = anonymous.registerTenant({
      ...request,
      contactEmail: "thief@registered.example",
      requestId,
    });
    await assertFails(changed, Code.AlreadyExists, "CONFLICT");
    const secretive = auth.changePassword(
      { currentPassword: "a", newPassword: "a long enough one" },
      { headers: { authorization: `Bearer ${server.tenant.token}`, "idempotency-key": "1" } },
    );
    await assertFails(secretive, Code.InvalidArgument, "INVALID_FIELD");
  });

  test("leaves nothing readable in the database", async () => {
    const requestId = randomUUID();
    const { secret } = await auth.createApiKey({ name: "at rest, not readable", requestId });
    const { rows } = await server.database.superuser.query("select * from idempotency_keys");
    assert.ok(rows.some(({ answer }) => answer !== null));
    for (const row of rows) {
      for (const value of Object.values(row).filter((column) => Buffer.isBuffer(column))) {
        for (const text of [secret, requestId, "at rest, not readable"]) {
          assert.equal(value.includes(text), false);
          assert.equal(value.includes(Buffer.from(requestId.replaceAll("-", ""), "hex")), false);
        }
      }
    }
  });

  test("that was tampered with gives no answer", async () => {
    const request = { name: "tampered", requestId: randomUUID() };
    const known = new Set(
      (await server.database.superuser.query("select id from idempotency_keys")).rows.map(({ id }) =>
        id.toString("hex"),
      ),
    );
    await auth.createApiKey(request);
    const { rows } = await server.database.superuser.query("select id, answer from idempotency_keys");
    const row = rows.find(({ id }) => !known.has(id.toString("hex")));
    row.answer[20] ^= 1;
    await server.database.superuser.query("update idempotency_keys set answer = $2 where id = $1", [
      row.id,
      row.answer,
    ]);
    await assertFails(auth.createApiKey(request), Code.Internal, "INTERNAL");
    assert.equal(await countKeys("tampered"), 1);
  });

  test("costs nothing where there is none, and says nothing where items have ids of their own", async () => {
    const before = await countRows();
    await auth.createApiKey({ name: "without" });
    const event = { eventId: "own-id", eventType: "a" };
    await ingestion.ingestEvent({ event }, withHeader("same-key-as-before"));
    const again = await ingestion.ingestEvent(
      { event: { eventType: "b" } },
      withHeader("same-key-as-before"),
    );
    assert.equal(again.duplicate, false);
    await auth.getMe({}, withHeader("reads-have-none"));
    assert.equal(await countRows(), before);
  });

  test("takes effect once under concurrency, on two servers", async () => {
    const request = { name: "crowd", requestId: randomUUID() };
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, i) => (i % 2 ? auth : authElsewhere).createApiKey(request)),
    );
    assert.equal(new Set(answers.map(({ secret }) => secret)).size, 1);
    assert.equal(await countKeys("crowd"), 1);
  });

  test("makes a repetition wait for the call that runs, no longer than its own deadline", async () => {
    const request = { name: "slow", requestId: randomUUID() };
    const blocker = await server.database.superuser.connect();
    try {
      await blocker.query("begin; lock table api_keys in share mode");
      const first = auth.createApiKey(request);
      await sleep(100);
      const hasty = await authElsewhere
        .createApiKey(request, { timeoutMs: 300 })
        .catch((error: unknown) => ConnectError.from(error));
      assert.ok(hasty instanceof ConnectError && hasty.code === Code.DeadlineExceeded, String(hasty));
      const patient = authElsewhere.createApiKey(request);
      await blocker.query("commit");
      assert.equal((await patient).secret, (await first).secret);
    } finally {
      blocker.release();
    }
    assert.equal(await countKeys("slow"), 1);
  });

  test("shuts a run out that has slept past its lease", async () => {
    const request = { name: "sleeper", requestId: randomUUID() };
    const blocker = await server.database.superuser.connect();
    try {
      await blocker.query("begin; lock table api_keys in share mode");
      const sleeper = auth.createApiKey(request).catch((error: unknown) => ConnectError.from(error));
      await sleep(2_200);
      const next = authElsewhere.createApiKey(request).catch((error: unknown) => ConnectError.from(error));
      await sleep(300);
      await blocker.query("commit");
      const shutOut = await sleeper;
      const answer = await next;
      assert.ok(shutOut instanceof ConnectError && shutOut.code === Code.Aborted, String(shutOut));
      assert.ok(!(answer instanceof ConnectError), String(answer));
      assert.equal((await auth.createApiKey(request)).secret, answer.secret);
    } finally {
      blocker.release();
    }
    assert.equal(await countKeys("sleeper"), 1);
  });

  test("obeys its model: the first content wins, everything else is a conflict, in any order and at once", async () => {
    const call = fc.record({
      id: fc.nat({ max: 2 }),
      content: fc.constantFrom("alpha", "beta"),
      elsewhere: fc.boolean(),
      header: fc.boolean(),
    });
    const groups = fc.array(fc.array(call, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(groups, async (rounds) => {
        const ids = [randomUUID(), randomUUID(), randomUUID()];
        const run = randomUUID();
        const model = new Map<number, { content: string; secret: string }>();
        for (const round of rounds) {
          const outcomes = await Promise.all(
            round.map(async ({ id, content, elsewhere, header }) => {
              const client = elsewhere ? authElsewhere : auth;
              const name = `${run} ${content} ${id}`;
              const key = ids[id] ?? "";
              const answer = await (header
                ? client.createApiKey({ name }, withHeader(key))
                : client.createApiKey({ name, requestId: key })
              ).catch((error: unknown) => ConnectError.from(error));
              return { id, content, answer };
            }),
          );
          for (const { id, content, answer } of outcomes) {
            if (answer instanceof ConnectError) assert.equal(answer.code, Code.AlreadyExists, answer.message);
            else {
              const known = model.get(id) ?? { content, secret: answer.secret };
              model.set(id, known);
              assert.deepEqual({ content, secret: answer.secret }, known);
            }
          }
          for (const { id, content, answer } of outcomes) {
            if (answer instanceof ConnectError) assert.notEqual(model.get(id)?.content, content);
          }
        }
        const { rows } = await server.database.superuser.query("select from api_keys where name like $1", [
          `${run}%`,
        ]);
        assert.equal(rows.length, model.size);
      }),
      { numRuns: 25 },
    );
  });
});

test("answers are kept for as long as set, and deleted in the background", async () => {
  await using server = await startTestServer({
    PULSEWIRE_IDEMPOTENCY_TTL: "1",
    PULSEWIRE_IDEMPOTENCY_LEASE: "1",
  });
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const auth = createClient(AuthService, session.transport);
  const request = { name: "short-lived", requestId: randomUUID() };
  const first = await auth.createApiKey(request);
  await sleep(1_050);
  assert.notEqual((await auth.createApiKey(request)).secret, first.secret);
  const left = async () =>
    (await server.database.superuser.query("select count(*)::int as n from idempotency_keys")).rows[0].n;
  for (const end = Date.now() + 10_000; (await left()) > 0; await sleep(50)) {
    assert.ok(Date.now() < end, "an expired row was not deleted");
  }
});
