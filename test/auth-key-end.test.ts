/** API keys that are rotated, revoked or left behind by who made them: from when on they are refused, everywhere. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { durationFromMs, timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { ApiKeyState } from "../server/src/gen/pulsewire/auth/v1/api_key_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { callJson, startKeyServer, untilRefused, withKey } from "./helpers/api-keys.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve } from "./helpers/server.ts";

const keys = await startKeyServer();
after(() => keys[Symbol.asyncDispose]());
const { server, auth, owner, signIn, makeKey, works, isRefused } = keys;

describe("rotating", () => {
  test("both keys work until the overlap ends, and each names the other", async () => {
    const expiresAt = timestampFromDate(new Date(Date.now() + 7 * 86_400_000));
    const old = await makeKey({
      name: "gateway 7",
      scopes: [Scope.EVENTS_WRITE],
      allowedIpRanges: ["127.0.0.0/8"],
      requestsPerMinute: 77,
      expiresAt,
    });
    await works(old.secret);
    const before = Date.now();
    const rotated = await auth.rotateApiKey({ apiKeyId: old.id }, owner);
    const { apiKey, previousApiKey } = rotated;
    assert.ok(apiKey && previousApiKey);
    assert.notEqual(rotated.secret, old.secret);
    assert.deepEqual(
      [apiKey.name, apiKey.scopes, apiKey.allowedIpRanges, apiKey.requestsPerMinute, apiKey.expiresAt],
      ["gateway 7", [Scope.EVENTS_WRITE], ["127.0.0.0/8"], 77, expiresAt],
    );
    assert.equal(apiKey.rotatedFrom, old.id);
    assert.equal(apiKey.state, ApiKeyState.ACTIVE);
    assert.equal(previousApiKey.rotatedTo, apiKey.id);
    assert.equal(previousApiKey.state, ApiKeyState.ROTATED);
    const end = previousApiKey.expiresAt && timestampDate(previousApiKey.expiresAt).getTime();
    assert.ok(end && Math.abs(end - before - 86_400_000) < 10_000);
    await works(old.secret);
    await works(rotated.secret);

    const again = auth.rotateApiKey({ apiKeyId: old.id }, owner);
    await assertFails(again, Code.FailedPrecondition, "FAILED_PRECONDITION");
    // Ending the old one at once does not end its successor.
    await auth.revokeApiKey({ apiKeyId: old.id }, owner);
    await isRefused(old.secret);
    await works(rotated.secret);
  });

  test("a short overlap ends on time; the old key never outlives its own expiry", async () => {
    const old = await makeKey();
    await works(old.secret);
    const { previousApiKey, secret } = await auth.rotateApiKey(
      { apiKeyId: old.id, overlap: durationFromMs(1_000) },
      owner,
    );
    const { error } = await untilRefused(() => works(old.secret));
    const end = previousApiKey?.expiresAt && timestampDate(previousApiKey.expiresAt).getTime();
    assert.equal(error.code, Code.Unauthenticated);
    assert.ok(end && Date.now() - end < 1_000 && Date.now() >= end);
    await works(secret);

    const expiresAt = timestampFromDate(new Date(Date.now() + 60_000));
    const brief = await makeKey({ expiresAt });
    const changed = await auth.rotateApiKey({ apiKeyId: brief.id }, owner);
    assert.deepEqual(changed.previousApiKey?.expiresAt, expiresAt);
    assert.deepEqual(changed.apiKey?.expiresAt, expiresAt);
  });

  test("of rotations that arrive together one succeeds", async () => {
    const old = await makeKey();
    const attempts = await Promise.allSettled(
      Array.from({ length: 8 }, () => auth.rotateApiKey({ apiKeyId: old.id }, owner)),
    );
    assert.equal(attempts.filter(({ status }) => status === "fulfilled").length, 1);
    const { rows } = await server.database.superuser.query(
      "select count(*)::int as n from api_keys where rotated_from = $1",
      [old.id],
    );
    assert.equal(rows[0].n, 1);
  });

  test("is for who administers keys, and for people's own; never gives more than one has", async () => {
    const member = await signIn("MEMBER");
    const own = await makeKey({ scopes: [Scope.EVENTS_WRITE] }, member);
    const others = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
    const { apiKey } = await auth.rotateApiKey({ apiKeyId: own.id }, member);
    assert.equal(apiKey?.createdBy, member.id);
    for (const who of [member, withKey(others.secret)]) {
      const call = auth.rotateApiKey({ apiKeyId: others.id }, who);
      await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
    }
    const maker = await makeKey({ scopes: [Scope.TENANT_ADMIN, Scope.EVENTS_READ] });
    const call = auth.rotateApiKey({ apiKeyId: others.id }, withKey(maker.secret));
    const { metadata } = await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
    assert.equal(metadata.scopes, "EVENTS_WRITE");
    const unknown = auth.rotateApiKey({ apiKeyId: randomUUID() }, owner);
    await assertFails(unknown, Code.NotFound, "NOT_FOUND");
    const tooLong = auth.rotateApiKey(
      { apiKeyId: others.id, overlap: durationFromMs(31 * 86_400_000) },
      owner,
    );
    await assertFails(tooLong, Code.InvalidArgument, "INVALID_FIELD");
  });
});

describe("revoking", () => {
  test("a key may end itself, people their own, and only who administers keys another's", async () => {
    const member = await signIn("MEMBER");
    const own = await makeKey({ scopes: [Scope.EVENTS_WRITE] }, member);
    const others = await makeKey({ scopes: [Scope.EVENTS_WRITE] });
    for (const who of [member, withKey(own.secret)]) {
      const call = auth.revokeApiKey({ apiKeyId: others.id }, who);
      await assertFails(call, Code.PermissionDenied, "MISSING_SCOPE");
    }
    const { apiKey } = await auth.revokeApiKey({ apiKeyId: others.id }, withKey(others.secret));
    assert.equal(apiKey?.state, ApiKeyState.REVOKED);
    await isRefused(others.secret);
    await auth.revokeApiKey({ apiKeyId: own.id }, member);
    await isRefused(own.secret);
    const admin = await signIn("ADMIN");
    const third = await makeKey({}, member);
    const first = await auth.revokeApiKey({ apiKeyId: third.id }, admin);
    const again = await auth.revokeApiKey({ apiKeyId: third.id }, admin);
    assert.deepEqual(again.apiKey?.revokedAt, first.apiKey?.revokedAt);
    const unknown = auth.revokeApiKey({ apiKeyId: randomUUID() }, owner);
    await assertFails(unknown, Code.NotFound, "NOT_FOUND");
  });

  test("in JSON as in gRPC", async () => {
    const headers = { "x-api-key": server.tenant.apiKey };
    const made = await callJson(server.url, "CreateApiKey", { name: "json" }, headers);
    assert.equal(made.status, 200);
    const secret = made.body.secret as string;
    assert.equal((await callJson(server.url, "GetMe", {}, { "x-api-key": secret })).status, 200);
    const rotated = await callJson(
      server.url,
      "RotateApiKey",
      { apiKeyId: made.body.apiKey.id, overlap: "0s" },
      headers,
    );
    assert.equal(rotated.status, 200);
    assert.equal(rotated.body.previousApiKey.state, "API_KEY_STATE_EXPIRED");
    const refused = await callJson(server.url, "GetMe", {}, { "x-api-key": secret });
    assert.equal(refused.status, 401);
    const ended = await callJson(
      server.url,
      "RevokeApiKey",
      { apiKeyId: rotated.body.apiKey.id },
      { "x-api-key": rotated.body.secret },
    );
    assert.equal(ended.body.apiKey.state, "API_KEY_STATE_REVOKED");
  });

  test("a revoked or rotated key stops working in another process within a second", async () => {
    await using other = await serve(server.database);
    using there = grpcSession(other.url);
    const elsewhere = createClient(AuthService, there.transport);
    for (let round = 0; round < 5; round++) {
      const [revoked, rotated] = [await makeKey(), await makeKey()];
      for (const { secret } of [revoked, rotated]) {
        await works(secret);
        await works(secret, elsewhere);
      }
      await Promise.all([
        auth.revokeApiKey({ apiKeyId: revoked.id }, owner),
        auth.rotateApiKey({ apiKeyId: rotated.id, overlap: durationFromMs(0) }, owner),
      ]);
      for (const { secret } of [revoked, rotated]) {
        await isRefused(secret);
        const { error, tookMs } = await untilRefused(() => works(secret, elsewhere));
        assert.equal(error.code, Code.Unauthenticated);
        assert.ok(tookMs < 1_000, `${tookMs} ms`);
      }
    }
  });

  test("also while processes cannot tell each other anything", async () => {
    await using other = await serve(server.database);
    using there = grpcSession(other.url);
    const elsewhere = createClient(AuthService, there.transport);
    const key = await makeKey();
    await works(key.secret);
    await works(key.secret, elsewhere);
    const { superuser, name } = server.database;
    const buses = [server.context.bus, other.context.bus];
    await superuser.query(`alter database ${name} connection limit 0`);
    try {
      await superuser.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name = 'pulsewire-bus'",
        [name],
      );
      while (buses.some(({ connected }) => connected)) await sleep(5);
      await works(key.secret, elsewhere);
      const revoking = auth.revokeApiKey({ apiKeyId: key.id }, owner).catch(ConnectError.from);
      const committed = async () => {
        const { rows } = await superuser.query("select revoked_at from api_keys where id = $1", [key.id]);
        return rows[0].revoked_at !== null;
      };
      while (!(await committed())) await sleep(5);
      const { error, tookMs } = await untilRefused(() => works(key.secret, elsewhere));
      assert.equal(error.code, Code.Unauthenticated);
      assert.ok(tookMs < 1_000, `${tookMs} ms`);
      // Whoever revokes is told that the others were not.
      const failed = await revoking;
      assert.ok(failed instanceof ConnectError);
      await assertFails(Promise.reject(failed), Code.Unavailable, "DEPENDENCY_UNAVAILABLE");
    } finally {
      await superuser.query(`alter database ${name} connection limit -1`);
    }
    while (buses.some(({ connected }) => !connected)) await sleep(5);
    await auth.revokeApiKey({ apiKeyId: key.id }, owner);
    await isRefused(key.secret, elsewhere);
  });

  test("under load no call is answered later than a second after the revocation", async () => {
    await using other = await serve(server.database);
    using there = grpcSession(other.url);
    const clients = [auth, createClient(AuthService, there.transport)];
    const key = await makeKey();
    let revokedAt = Number.POSITIVE_INFINITY;
    let latest = 0;
    let running = true;
    const callers = Array.from({ length: 16 }, async (_, i) => {
      while (running) {
        const started = performance.now();
        const answered = await works(key.secret, clients[i % 2]).then(
          () => true,
          () => false,
        );
        if (answered && started > revokedAt) latest = Math.max(latest, started - revokedAt);
        if (!answered) await sleep(5);
      }
    });
    await works(key.secret);
    await auth.revokeApiKey({ apiKeyId: key.id }, owner);
    revokedAt = performance.now();
    await sleep(1_500);
    running = false;
    await Promise.all(callers);
    assert.ok(latest < 1_000, `a call that began ${latest} ms later was answered`);
  });
});
