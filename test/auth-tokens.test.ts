import assert from "node:assert/strict";
import { generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, createClient } from "@connectrpc/connect";
import {
  CompactEncrypt,
  createRemoteJWKSet,
  decodeJwt,
  decodeProtectedHeader,
  exportJWK,
  generateKeyPair,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from "jose";
import { envToConfig } from "../server/src/config/config.ts";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { createKeyRing, openKeyRing } from "../server/src/keyring.ts";
import { createTestDatabase, type TestDatabase } from "./helpers/database.ts";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

type SignKey = Parameters<SignJWT["sign"]>[0];
const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const jwksOf = async (url: string): Promise<{ keys: JWK[] }> =>
  (await fetch(`${url}/.well-known/jwks.json`)).json();

async function until(done: () => Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 20_000; !(await done()); await sleep(20)) {
    assert.ok(Date.now() < end, "it did not come about");
  }
}

async function login({ url, tenant }: { url: string; tenant: TestServer["tenant"] }): Promise<string> {
  using session = grpcSession(url);
  const { email, password, slug } = tenant;
  const answer = await createClient(AuthService, session.transport).login({
    email,
    password,
    tenantSlug: slug,
  });
  return answer.accessToken;
}

describe("a forged token", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let auth: Client<typeof AuthService>;
  let claims: JWTPayload;
  let kid: string;
  let ours: SignKey;
  let theirs: SignKey;
  let theirJwk: JWK;
  let publicJwk: JWK;

  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url);
    auth = createClient(AuthService, session.transport);
    claims = decodeJwt(server.tenant.token);
    kid = String(decodeProtectedHeader(server.tenant.token).kid);
    ours = server.context.signingKeys.current().key;
    const pair = await generateKeyPair("EdDSA", { extractable: true });
    theirs = pair.privateKey;
    theirJwk = await exportJWK(pair.publicKey);
    const [published] = (await jwksOf(server.url)).keys;
    assert.ok(published);
    publicJwk = published;
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  const getMe = (token: string) => auth.getMe({}, { headers: { authorization: `Bearer ${token}` } });
  async function refused(what: string, token: string): Promise<void> {
    await assertFails(getMe(token), Code.Unauthenticated, "INVALID_TOKEN").catch((error: unknown) =>
      assert.fail(`${what}: ${error}`),
    );
  }
  const sign = (key: SignKey, header: Record<string, unknown> = {}, payload: Record<string, unknown> = {}) =>
    new SignJWT({ ...claims, ...payload })
      .setProtectedHeader({ alg: "EdDSA", typ: "JWT", kid, ...header })
      .sign(key);

  test("is told from a right one, which the same code makes", async () => {
    const me = await getMe(await sign(ours, {}, { jti: "made here" }));
    assert.equal(me.tenant?.slug, "first");
  });

  test("without a signature is refused, whatever the algorithm is called", async () => {
    const payload = encode(claims);
    for (const alg of ["none", "None", "NONE", "nOnE", "", "EdDSA"]) {
      await refused(alg, `${encode({ alg, typ: "JWT", kid })}.${payload}.`);
    }
    const [header, body, signature = ""] = server.tenant.token.split(".");
    await refused("header left out", `.${body}.${signature}`);
    await refused("other payload", `${header}.${encode({ ...claims, tid: randomUUID() })}.${signature}`);
    await refused("signature cut", `${header}.${body}.${signature.slice(0, -4)}`);
    await refused("signature of zeros", `${header}.${body}.${Buffer.alloc(64).toString("base64url")}`);
    await refused("five parts", `${header}.${body}.${signature}.${body}.${signature}`);
  });

  test("signed with the public key as a secret, or with another algorithm, is refused", async () => {
    const raw = Buffer.from(publicJwk.x ?? "", "base64url");
    const { publicKey } = generateKeyPairSync("ed25519");
    const spki = Buffer.concat([publicKey.export({ format: "der", type: "spki" }).subarray(0, 12), raw]);
    const pem = `-----BEGIN PUBLIC KEY-----\n${spki.toString("base64")}\n-----END PUBLIC KEY-----\n`;
    const { kty, crv, x } = publicJwk;
    for (const secret of [
      raw,
      spki,
      Buffer.from(pem),
      Buffer.from(JSON.stringify({ kty, crv, x })),
      Buffer.alloc(32),
    ]) {
      for (const alg of ["HS256", "HS384", "HS512"]) {
        const padded = secret.length < 64 ? Buffer.concat([secret], 64) : secret;
        await refused(alg, await sign(secret.length >= 64 || alg === "HS256" ? secret : padded, { alg }));
      }
    }
    for (const alg of ["ES256", "RS256", "PS256"]) {
      const { privateKey } = await generateKeyPair(alg);
      await refused(alg, await sign(privateKey, { alg }));
    }
    const jwe = await new CompactEncrypt(Buffer.from(JSON.stringify(claims)))
      .setProtectedHeader({ alg: "dir", enc: "A256GCM", kid, typ: "JWT" })
      .encrypt(Buffer.concat([raw], 32));
    await refused("JWE", jwe);
  });

  test("with a key id that leads elsewhere is refused", async () => {
    const ids: unknown[] = [
      "../../../../../../dev/null",
      "/dev/null",
      "' or '1'='1",
      "x' union select 'a' --",
      "unknown",
      randomUUID(),
      `${kid} `,
      kid.toUpperCase(),
      "__proto__",
      "constructor",
      "k".repeat(4_000),
      "",
      undefined,
      0,
      [kid],
      { kid },
    ];
    for (const id of ids) {
      await refused(`${id}, their key`, await sign(theirs, { kid: id }));
      if (JSON.stringify(id) !== JSON.stringify([kid]))
        await refused(`${id}, our key`, await sign(ours, { kid: id }));
      await refused(`${id}, empty secret`, await sign(Buffer.alloc(32), { kid: id, alg: "HS256" }));
    }
  });

  test("that brings its own key is refused, and nothing is fetched for it", async () => {
    let requests = 0;
    const evil = createServer((_request, response) => {
      requests++;
      response.end(JSON.stringify({ keys: [{ ...theirJwk, kid, alg: "EdDSA" }] }));
    });
    await new Promise<void>((done) => evil.listen(0, "127.0.0.1", done));
    const url = `http://127.0.0.1:${(evil.address() as AddressInfo).port}/jwks.json`;
    for (const id of [kid, "theirs"]) {
      for (const header of [
        { jwk: theirJwk },
        { jku: url },
        { x5u: url },
        { x5c: [Buffer.from(JSON.stringify(theirJwk)).toString("base64")] },
        { jwk: theirJwk, jku: url, x5u: url },
      ]) {
        await refused(JSON.stringify(header), await sign(theirs, { kid: id, ...header }));
      }
    }
    evil.close();
    assert.equal(requests, 0);
  });

  test("for something or somebody else is refused, though the signature is right", async () => {
    const now = Math.floor(Date.now() / 1_000);
    const wrong: Record<string, { header?: Record<string, unknown>; payload?: Record<string, unknown> }> = {
      "another audience": { payload: { aud: "other" } },
      "no audience": { payload: { aud: undefined } },
      "another issuer": { payload: { iss: "other" } },
      "no issuer": { payload: { iss: undefined } },
      "an outside issuer": { payload: { iss: "https://accounts.google.com" } },
      expired: { payload: { exp: now - 10 } },
      "no expiry": { payload: { exp: undefined } },
      "expiry in words": { payload: { exp: "tomorrow" } },
      "not valid yet": { payload: { nbf: now + 60 } },
      "no session": { payload: { sid: undefined } },
      "an unknown session": { payload: { sid: randomUUID() } },
      "a session that is no id": { payload: { sid: "' or 1=1" } },
      "another tenant": { payload: { tid: randomUUID() } },
      "a tenant that is no id": { payload: { tid: "x" } },
      "another user": { payload: { sub: randomUUID() } },
      "no user": { payload: { sub: undefined } },
      "another type": { header: { typ: "at+jwt" } },
      "a logout token": { header: { typ: "logout+jwt" } },
      "no type": { header: { typ: undefined } },
    };
    for (const [what, { header, payload }] of Object.entries(wrong)) {
      await refused(what, await sign(ours, header, payload));
    }
    const critical = `${encode({ alg: "EdDSA", typ: "JWT", kid, crit: ["x"], x: 1 })}.${encode(claims)}`;
    await refused("critical extension", `${critical}.${server.tenant.token.split(".")[2]}`);
  });

  test("says nothing more over Connect JSON", async () => {
    const response = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/GetMe`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${await sign(theirs)}` },
      body: "{}",
    });
    assert.equal(response.status, 401);
    const { code, message } = await response.json();
    assert.equal(code, "unauthenticated");
    assert.doesNotMatch(message, /key|signature|kid/i);
  });
});

describe("the JWKS", () => {
  test("lets others check our tokens, may be cached, and holds nothing private", async () => {
    await using server = await startTestServer();
    const address = `${server.url}/.well-known/jwks.json`;
    const response = await fetch(address);
    assert.equal(response.headers.get("content-type"), "application/jwk-set+json");
    assert.equal(response.headers.get("cache-control"), "public, max-age=300");
    const { keys } = (await response.json()) as { keys: JWK[] };
    assert.equal(keys.length, 1);
    assert.deepEqual(Object.keys(keys[0] ?? {}).sort(), ["alg", "crv", "kid", "kty", "use", "x"]);
    const checked = await jwtVerify(server.tenant.token, createRemoteJWKSet(new URL(address)), {
      issuer: "pulsewire",
      audience: "pulsewire",
    });
    assert.equal(checked.payload.tid, server.tenant.tenantId);

    const etag = response.headers.get("etag") ?? "";
    const cached = await fetch(address, { headers: { "if-none-match": `"other", W/${etag}` } });
    assert.equal(cached.status, 304);
    assert.equal(await cached.text(), "");
    const head = await fetch(address, { method: "HEAD" });
    assert.equal(head.status, 200);
    assert.equal(head.headers.get("etag"), etag);
    const post = await fetch(address, { method: "POST" });
    assert.equal(post.status, 405);
    assert.equal(post.headers.get("allow"), "GET, HEAD");
  });

  test("is empty with a shared secret, which is the only key then", async () => {
    const secret = "0123456789abcdef0123456789abcdef";
    await using server = await startTestServer({ JWT_SECRET_KEY: secret });
    assert.deepEqual(await jwksOf(server.url), { keys: [] });
    using session = grpcSession(server.url);
    const auth = createClient(AuthService, session.transport);
    const claims = decodeJwt(server.tenant.token);
    const call = async (alg: string, key: SignKey) => {
      const token = await new SignJWT({ ...claims, jti: alg })
        .setProtectedHeader({ alg, typ: "JWT" })
        .sign(key);
      return auth.getMe({}, { headers: { authorization: `Bearer ${token}` } });
    };
    await call("HS256", Buffer.from(secret));
    await assertFails(call("HS256", Buffer.from(`${secret}0`)), Code.Unauthenticated, "INVALID_TOKEN");
    await assertFails(call("HS512", Buffer.from(secret.repeat(2))), Code.Unauthenticated, "INVALID_TOKEN");
    const { privateKey } = await generateKeyPair("EdDSA");
    await assertFails(call("EdDSA", privateKey), Code.Unauthenticated, "INVALID_TOKEN");
  });
});

describe("signing keys", () => {
  const storedKeys = async ({ superuser }: TestDatabase) =>
    (await superuser.query("select kid, private_key, signs_from from signing_keys order by signs_from")).rows;

  test("take turns: published before they sign, accepted after, on several servers", async () => {
    const rotation = { PULSEWIRE_SIGNING_KEY_PERIOD: "4", PULSEWIRE_SIGNING_KEY_LEAD: "2" };
    await using server = await startTestServer(rotation);
    await using other = await serve(server.database, rotation);
    using session = grpcSession(other.url);
    const auth = createClient(AuthService, session.transport);
    const kids = async (url: string) => (await jwksOf(url)).keys.map(({ kid }) => kid);
    const tokens = [await login(server)];
    const [first] = await kids(server.url);
    const seen = new Map<string, number>();
    const end = Date.now() + 9_000;
    let lookedAt = Date.now();
    for (let signing = first; Date.now() < end; await sleep(100)) {
      const [lastLook, now] = [lookedAt, Date.now()];
      lookedAt = now;
      for (const url of [server.url, other.url]) {
        for (const kid of await kids(url))
          if (!seen.has(`${url} ${kid}`)) seen.set(`${url} ${kid}`, Date.now());
      }
      const { kid } = server.context.signingKeys.current();
      if (kid === signing) continue;
      signing = kid;
      for (const url of [server.url, other.url]) {
        const aheadMs = Date.now() - (seen.get(`${url} ${kid}`) ?? Date.now());
        // On a machine that stands still both are seen at once; the keys' own times are compared below.
        if (now - lastLook < 500) assert.ok(aheadMs > 900, `published only ${aheadMs} ms before it signed`);
      }
      tokens.push(await login(server));
    }
    assert.ok(tokens.length >= 3);
    assert.equal(new Set(tokens.map((token) => decodeProtectedHeader(token).kid)).size, tokens.length);
    for (const token of tokens) await auth.getMe({}, { headers: { authorization: `Bearer ${token}` } });
    const rows = await storedKeys(server.database);
    for (const [index, row] of rows.entries()) {
      if (index === 0) continue;
      const distance = row.signs_from.getTime() - rows[index - 1].signs_from.getTime();
      assert.ok(distance >= 4_000, "two servers made a key for the same period");
    }
  });

  test("are deleted when their tokens have all expired, and not before", async () => {
    await using server = await startTestServer({ PULSEWIRE_SIGNING_KEY_LEAD: "1" });
    using session = grpcSession(server.url);
    const auth = createClient(AuthService, session.transport);
    const old = await login(server);
    const { superuser } = server.database;
    const age = (interval: string) =>
      superuser.query(`update signing_keys set signs_from = signs_from - interval '${interval}'`);
    await age("31 days");
    await until(async () => (await storedKeys(server.database)).length === 2);
    await until(
      async () => decodeProtectedHeader(await login(server)).kid !== decodeProtectedHeader(old).kid,
    );
    await age("20 hours");
    await sleep(600);
    await auth.getMe({}, { headers: { authorization: `Bearer ${old}` } });
    await age("5 hours");
    await until(async () => (await storedKeys(server.database)).length === 1);
    await until(async () => (await jwksOf(server.url)).keys.length === 1);
  });

  test("are made once by servers that start together", async () => {
    await using database = await createTestDatabase();
    const servers = await Promise.all(Array.from({ length: 4 }, () => serve(database)));
    assert.equal((await storedKeys(database)).length, 1);
    await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
  });

  test("are encrypted at rest, and only the right key opens them", async () => {
    const keys = Array.from({ length: 2 }, () => randomBytes(32).toString("base64"));
    const [oldKey = "", newKey = ""] = keys;
    const withKey = (key: string) => ({ PULSEWIRE_KEY_ENCRYPTION_KEY: key });
    await using plain = await startTestServer();
    const { database, tenant } = plain;
    const token = tenant.token;
    const [clear] = await storedKeys(database);
    assert.ok(JSON.parse(clear.private_key).d, "documented: without the setting it lies there in clear");

    const accepts = async (settings: Record<string, string>) => {
      await using server = await serve(database, settings);
      using session = grpcSession(server.url, { authorization: `Bearer ${token}` });
      await createClient(AuthService, session.transport).getMe({});
    };
    await database.superuser.query("update signing_keys set signs_from = signs_from - interval '31 days'");
    await accepts(withKey(oldKey));
    const sealed = await storedKeys(database);
    assert.equal(sealed.length, 2, "a due key is made at the start");
    for (const { private_key } of sealed) {
      assert.equal(private_key.split(".").length, 5);
      assert.doesNotMatch(Buffer.from(private_key, "base64url").toString("latin1"), /"d"/);
    }
    await assert.rejects(serve(database), /PULSEWIRE_KEY_ENCRYPTION_KEY/);
    await assert.rejects(serve(database, withKey(newKey)), /PULSEWIRE_KEY_ENCRYPTION_KEY/);
    await accepts(withKey(`${newKey},${oldKey}`));
    await accepts(withKey(newKey));

    const [one, two] = await storedKeys(database);
    await database.superuser.query("update signing_keys set private_key = $1 where kid = $2", [
      one.private_key,
      two.kid,
    ]);
    await assert.rejects(serve(database, withKey(newKey)), /stands at/);
  });
});

describe("the key ring", () => {
  test("makes its own key in the data folder of the embedded default, for the owner only", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "pulsewire-keyring-"));
    try {
      const config = envToConfig({ PULSEWIRE_DATA_DIR: dataDir });
      const sealed = await openKeyRing(config).seal("secret", "a");
      assert.doesNotMatch(sealed, /secret/);
      assert.equal((await stat(join(dataDir, "encryption.key"))).mode & 0o777, 0o600);
      assert.deepEqual(await openKeyRing(config).open(sealed, "a"), { text: "secret", stale: false });
      await assert.rejects(openKeyRing(config).open(sealed, "b"), /stands at/);
    } finally {
      await rm(dataDir, { recursive: true });
    }
  });

  test("derives the same secret for the same purpose, and none without a key", () => {
    const key = randomBytes(32);
    const [a, again, b] = ["a", "a", "b"].map((purpose) => createKeyRing([key]).derive(purpose));
    assert.deepEqual(a, again);
    assert.notDeepEqual(a, b);
    assert.equal(createKeyRing([]).derive("a"), undefined);
  });

  test("names what is wrong with a key", () => {
    for (const PULSEWIRE_KEY_ENCRYPTION_KEY of ["short", `${randomBytes(32).toString("base64")},`]) {
      assert.throws(() => envToConfig({ PULSEWIRE_KEY_ENCRYPTION_KEY }), /32 bytes in base64/);
    }
    assert.throws(
      () => envToConfig({ PULSEWIRE_SIGNING_KEY_PERIOD: "60", PULSEWIRE_SIGNING_KEY_LEAD: "60" }),
      /PULSEWIRE_SIGNING_KEY_LEAD must be less/,
    );
  });
});
