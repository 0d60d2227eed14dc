import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, settingsFor, startTestServer, type TestServer } from "./helpers/server.ts";
import { type ServerProcess, startServerProcess } from "./helpers/server-process.ts";

const lease = { PULSEWIRE_IDEMPOTENCY_LEASE: "1" };

/** A further server, in a process that can be killed, on the database of the first. */
function startVictim(server: TestServer): Promise<ServerProcess> {
  return startServerProcess({ ...settingsFor(server.database), ...lease, LOG_LEVEL: "info" });
}

/** Makes the database hold every statement that sets this column, so that a process can be killed right there. */
async function holdWhen(server: TestServer, column: "effect_at" | "answer"): Promise<() => Promise<void>> {
  const { superuser } = server.database;
  await superuser.query(`
    create function hold() returns trigger language plpgsql as 'begin perform pg_sleep(20); return new; end';
    create trigger hold before update on idempotency_keys for each row
      when (old.${column} is null and new.${column} is not null) execute function hold()`);
  return async () => {
    await superuser.query("drop trigger hold on idempotency_keys; drop function hold");
  };
}

/** Waits until a statement of the victim is held. */
async function heldStatement(server: TestServer): Promise<void> {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(10)) {
    const { rows } = await server.database.superuser.query(
      "select from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
    );
    if (rows.length > 0) return;
  }
  assert.fail("no statement was held");
}

/** The backend of a killed process notices when its statement is over; here it is told at once. */
async function endHeldStatements(server: TestServer): Promise<void> {
  await server.database.superuser.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
  );
}

async function keysNamed(server: TestServer, name: string): Promise<number> {
  const { rows } = await server.database.superuser.query("select from api_keys where name = $1", [name]);
  return rows.length;
}

test("killed between effect and answer: repetitions are told that the outcome is unknown, and nothing happens twice", async () => {
  await using server = await startTestServer(lease);
  await using victim = await startVictim(server);
  const credentials = { "x-api-key": server.tenant.apiKey };
  using toVictim = grpcSession(victim.url, credentials);
  using toSurvivor = grpcSession(server.url, credentials);
  const survivor = createClient(AuthService, toSurvivor.transport);
  const request = { name: "lost answer", requestId: randomUUID() };

  const letGo = await holdWhen(server, "answer");
  const lost = createClient(AuthService, toVictim.transport).createApiKey(request);
  lost.catch(() => {});
  await heldStatement(server);
  await victim.kill();
  await assert.rejects(lost);
  await endHeldStatements(server);
  await letGo();

  const { metadata } = await assertFails(
    survivor.createApiKey(request),
    Code.FailedPrecondition,
    "OUTCOME_UNKNOWN",
  );
  assert.deepEqual(metadata, { id: request.requestId });
  await assertFails(survivor.createApiKey(request), Code.FailedPrecondition, "OUTCOME_UNKNOWN");
  const changed = survivor.createApiKey({ ...request, name: "other" });
  await assertFails(changed, Code.AlreadyExists, "CONFLICT");
  assert.equal(await keysNamed(server, "lost answer"), 1);
  await survivor.createApiKey({ ...request, requestId: randomUUID() });
});

test("killed before the commit: a repetition takes over when the lease has lapsed", async () => {
  await using server = await startTestServer(lease);
  await using victim = await startVictim(server);
  const credentials = { "x-api-key": server.tenant.apiKey };
  using toVictim = grpcSession(victim.url, credentials);
  using toSurvivor = grpcSession(server.url, credentials);
  const survivor = createClient(AuthService, toSurvivor.transport);
  const request = { name: "no effect", requestId: randomUUID() };

  const letGo = await holdWhen(server, "effect_at");
  const lost = createClient(AuthService, toVictim.transport).createApiKey(request);
  lost.catch(() => {});
  await heldStatement(server);
  await victim.kill();
  await assert.rejects(lost);
  await endHeldStatements(server);
  await letGo();
  assert.equal(await keysNamed(server, "no effect"), 0);

  const { secret } = await survivor.createApiKey(request);
  assert.equal((await survivor.createApiKey(request)).secret, secret);
  assert.equal(await keysNamed(server, "no effect"), 1);
});

test("killed under load, at any moment: every request id has one effect or none, and an answer or an explanation", async (t) => {
  await using server = await startTestServer(lease);
  using toSurvivor = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const survivor = createClient(AuthService, toSurvivor.transport);
  const counts = { answered: 0, repeated: 0, unknown: 0 };

  for (let round = 0; round < 3; round++) {
    await using victim = await startVictim(server);
    using toVictim = grpcSession(victim.url, { "x-api-key": server.tenant.apiKey });
    const client = createClient(AuthService, toVictim.transport);
    const answers = new Map<string, string | undefined>();
    let alive = true;
    const workers = Array.from({ length: 8 }, async () => {
      while (alive) {
        const requestId = randomUUID();
        answers.set(requestId, undefined);
        const answer = await client.createApiKey({ name: requestId, requestId }).catch(() => undefined);
        if (!answer) return;
        answers.set(requestId, answer.secret);
      }
    });
    while ([...answers.values()].filter((secret) => secret !== undefined).length < 10) await sleep(10);
    await sleep(Math.random() * 200);
    await victim.kill();
    alive = false;
    await Promise.all(workers);

    await Promise.all(
      [...answers].slice(-100).map(async ([requestId, secret]) => {
        const again = await survivor
          .createApiKey({ name: requestId, requestId })
          .catch((error: unknown) => ConnectError.from(error));
        const effects = await keysNamed(server, requestId);
        if (again instanceof ConnectError) {
          assert.equal(again.code, Code.FailedPrecondition, again.message);
          assert.equal(effects, 1, "what is called an effect is none");
          counts.unknown++;
        } else {
          assert.equal(effects, 1);
          if (secret !== undefined) assert.equal(again.secret, secret);
          if (secret === undefined) counts.repeated++;
          else counts.answered++;
        }
      }),
    );
  }
  t.diagnostic(JSON.stringify(counts));
  assert.ok(counts.answered > 0);
});
