import { setTimeout as sleep } from "node:timers/promises";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import type { Settings } from "../../server/src/config/setting-names.ts";
import type { Role, UserState } from "../../server/src/db/schema/auth.ts";
import { ErrorInfoSchema } from "../../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { addPerson, type TestPerson } from "./people.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./server.ts";

export const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
export const withKey = (key: string) => ({ headers: { "x-api-key": key } });
export type Credentials = ReturnType<typeof bearer> | ReturnType<typeof withKey>;

/** Two servers on one database; the owner of the tenant `first` is a platform admin at both. */
export interface TestPlatform extends AsyncDisposable {
  /** The one that the tenants register with: it names no platform admin. */
  readonly base: TestServer;
  readonly url: string;
  readonly otherUrl: string;
  readonly auth: Client<typeof AuthService>;
  /** The same service at the other server. */
  readonly elsewhere: Client<typeof AuthService>;
  /** The platform admin's session. */
  readonly operator: ReturnType<typeof bearer>;
  logIn(email: string, password: string, tenantSlug: string): Promise<ReturnType<typeof bearer>>;
  /** Puts a person into a tenant and logs them in. */
  person(
    tenant: { tenantId: string; slug: string },
    role: Role,
    state?: UserState,
  ): Promise<TestPerson & ReturnType<typeof bearer>>;
}

/** Starts it. `settings` are those of both servers. */
export async function startPlatform(settings: Settings = {}): Promise<TestPlatform> {
  await using undo = new AsyncDisposableStack();
  // The tenants that a platform admin is named in are made where none is.
  const { PULSEWIRE_PLATFORM_ADMINS: _, ...common } = settings;
  const base = undo.use(await startTestServer({ PULSEWIRE_AUTH_RATE_LIMIT: "0", ...common }));
  const { email, password, slug } = base.tenant;
  const named = {
    PULSEWIRE_AUTH_RATE_LIMIT: "0",
    PULSEWIRE_PLATFORM_ADMINS: `nobody@nowhere.example/none, ${email.toUpperCase()}/${slug}`,
    ...settings,
  };
  const { url } = undo.use(await serve(base.database, named));
  const { url: otherUrl } = undo.use(await serve(base.database, named));
  const auth = createClient(AuthService, undo.use(grpcSession(url)).transport);
  const elsewhere = createClient(AuthService, undo.use(grpcSession(otherUrl)).transport);
  const logIn: TestPlatform["logIn"] = async (email, password, tenantSlug) =>
    bearer((await auth.login({ email, password, tenantSlug })).accessToken);
  let people = 0;
  const person: TestPlatform["person"] = async ({ tenantId, slug }, role, state) => {
    const email = `person-${++people}@${slug}.example`;
    const made = await addPerson(base.database, tenantId, email, { role, ...(state && { state }) });
    return { ...made, ...(state === "DISABLED" ? bearer("") : await logIn(email, made.password, slug)) };
  };
  const operator = await logIn(email, password, slug);
  const running = undo.move();
  return {
    base,
    url,
    otherUrl,
    auth,
    elsewhere,
    operator,
    logIn,
    person,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Calls in JSON over HTTP/1.1. */
export async function callJson(
  url: string,
  method: string,
  body: object,
  { headers }: Credentials,
  service = "auth.v1.AuthService",
) {
  const response = await fetch(`${url}/pulsewire.${service}/${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

/** Calls until the call is refused for this reason; says after how long. */
export async function untilRefused(call: () => Promise<unknown>, reason: string, timeoutMs = 10_000) {
  const started = performance.now();
  for (;;) {
    const found = await call().then(
      () => "answered",
      (error: unknown) => ConnectError.from(error).findDetails(ErrorInfoSchema)[0]?.reason,
    );
    const tookMs = performance.now() - started;
    if (found === reason) return tookMs;
    if (tookMs > timeoutMs) throw new Error(`${found} instead of ${reason} after ${timeoutMs} ms`);
    await sleep(5);
  }
}
