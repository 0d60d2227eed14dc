import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import type { ClientConfig } from "pg";
import { envToConfig } from "../../server/src/config/config.ts";
import type { Settings } from "../../server/src/config/setting-names.ts";
import { type Context, createContext } from "../../server/src/context.ts";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Scope } from "../../server/src/gen/pulsewire/options/v1/access_pb.js";
import { createServer } from "../../server/src/server.ts";
import { createTestDatabase, type TestDatabase, testLogger } from "./database.ts";

/** A tenant with its owner and a key that may do all that the owner may. */
export interface TestTenant {
  readonly tenantId: string;
  readonly slug: string;
  readonly email: string;
  readonly password: string;
  readonly apiKey: string;
  /** The owner's access token. */
  readonly token: string;
}

export interface TestServer extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  /** A first tenant, made as a user would: registered, logged in, password changed, key created. */
  readonly tenant: TestTenant;
  readonly context: Context;
  readonly database: TestDatabase;
  /** Registers a further tenant. */
  register(slug: string): Promise<TestTenant>;
  /** Drains the server and drops its database. */
  stop(): Promise<void>;
}

/** Starts the whole server, as production does, on a database of its own and a free port. */
export async function startTestServer(settings: Settings = {}): Promise<TestServer> {
  await using undo = new AsyncDisposableStack();
  const database = undo.use(await createTestDatabase());
  const { url, port, context } = undo.use(await serve(database, settings));
  const register = (slug: string) => registerTenant(url, slug);
  const tenant = await register("first");
  const running = undo.move();
  const stop = () => running.disposeAsync();
  return { url, port, tenant, context, database, register, stop, [Symbol.asyncDispose]: stop };
}

/** Settings of a server on this database, in this process or in one of its own. */
export function settingsFor(database: TestDatabase): Settings {
  return {
    HOST: "127.0.0.1",
    PORT: "0",
    DATABASE_URL: urlOf(database.connection("app")),
    PULSEWIRE_MIGRATION_DATABASE_URL: urlOf(database.connection("owner")),
    PULSEWIRE_DRAIN_TIMEOUT: "5",
    // All tests call from one address.
    PULSEWIRE_AUTH_RATE_LIMIT: "1000000",
  };
}

/** Starts a server on a database that is there already. */
export async function serve(database: TestDatabase, settings: Settings = {}) {
  const config = envToConfig({ ...settingsFor(database), ...settings });
  const context = await createContext(config, testLogger);
  const server = createServer(context);
  const { url, port } = await server.start();
  return { url, port, context, [Symbol.asyncDispose]: () => server.drain() };
}

function urlOf({ user, host, port, database }: ClientConfig): string {
  return `postgres://${user}@${encodeURIComponent(host ?? "")}:${port}/${database}`;
}

const allScopes = Object.values(Scope).filter(
  (scope): scope is Scope =>
    typeof scope === "number" && scope !== Scope.UNSPECIFIED && scope !== Scope.PLATFORM_ADMIN,
);

/** Registers a tenant as a user would. */
export async function registerTenant(url: string, slug: string): Promise<TestTenant> {
  using session = grpcSession(url);
  const auth = createClient(AuthService, session.transport);
  const email = `owner@${slug}.example`;
  const password = `a password for ${slug}`;
  const registered = await auth.registerTenant({ name: slug, slug, contactEmail: email });
  const { accessToken } = await auth.login({
    email,
    password: registered.temporaryPassword,
    tenantSlug: slug,
  });
  const changed = await auth.changePassword(
    { currentPassword: registered.temporaryPassword, newPassword: password },
    { headers: { authorization: `Bearer ${accessToken}` } },
  );
  const { secret } = await auth.createApiKey(
    { name: "tests", scopes: allScopes },
    { headers: { authorization: `Bearer ${changed.accessToken}` } },
  );
  const tenantId = registered.tenant?.id ?? "";
  return { tenantId, slug, email, password, apiKey: secret, token: changed.accessToken };
}

/** A gRPC transport whose connection ends with the scope, so that no test waits for an idle session. */
export function grpcSession(url: string, headers: Record<string, string> = {}) {
  const controller = new Http2SessionManager(url);
  const transport = createGrpcTransport({
    baseUrl: url,
    sessionManager: controller,
    interceptors: [
      (next) => (req) => {
        for (const [name, value] of Object.entries(headers)) req.header.set(name, value);
        return next(req);
      },
    ],
  });
  return { transport, [Symbol.dispose]: () => controller.abort() };
}
