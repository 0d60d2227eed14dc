/** A server with what tests of API keys do with it. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { newResourceId } from "../../server/src/auth/ids.ts";
import { hashPassword } from "../../server/src/auth/passwords.ts";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { assertFails } from "./errors.ts";
import { grpcSession, startTestServer } from "./server.ts";

export const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
export const withKey = (key: string) => ({ headers: { "x-api-key": key } });

/** Calls AuthService in JSON over HTTP/1.1. */
export async function callJson(url: string, method: string, body: object, headers: Record<string, string>) {
  const response = await fetch(`${url}/pulsewire.auth.v1.AuthService/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Calls until the call fails, and says with what and after how long. */
export async function untilRefused(call: () => Promise<unknown>, timeoutMs = 10_000) {
  const started = performance.now();
  for (;;) {
    try {
      await call();
    } catch (error) {
      return { error: ConnectError.from(error), tookMs: performance.now() - started };
    }
    assert.ok(performance.now() - started < timeoutMs, `still answered after ${timeoutMs} ms`);
    await sleep(5);
  }
}

/** Starts a server that writes the last use of keys every second. */
export async function startKeyServer() {
  const server = await startTestServer({ PULSEWIRE_API_KEY_USE_INTERVAL: "1" });
  const session = grpcSession(server.url);
  const auth = createClient(AuthService, session.transport);
  const owner = bearer(server.tenant.token);
  const works = (secret: string, client = auth) => client.getMe({}, withKey(secret));
  return {
    server,
    session,
    auth,
    /** The owner of the first tenant. */
    owner,
    /** A person of the first tenant with a session. */
    async signIn(role: "ADMIN" | "MEMBER" | "VIEWER") {
      const { tenantId, slug } = server.tenant;
      const id = newResourceId();
      const email = `${id}@first.example`;
      const password = "a password of one's own";
      await server.database.superuser.query(
        "insert into users (tenant_id, id, email, display_name, password_hash, role) values ($1, $2, $3, '', $4, $5)",
        [tenantId, id, email, await hashPassword(password), role],
      );
      const { accessToken } = await auth.login({ email, password, tenantSlug: slug });
      return { id, ...bearer(accessToken) };
    },
    async makeKey(
      request: Parameters<typeof auth.createApiKey>[0] = {},
      who: { headers: Record<string, string> } = owner,
    ) {
      const { apiKey, secret } = await auth.createApiKey({ name: "key", ...request }, who);
      assert.ok(apiKey);
      return { ...apiKey, secret };
    },
    works,
    isRefused: (secret: string, client = auth) =>
      assertFails(works(secret, client), Code.Unauthenticated, "INVALID_API_KEY"),
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await server.stop();
    },
  };
}
