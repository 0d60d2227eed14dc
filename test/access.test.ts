import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type DescMethod, getOption } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { access, Scope } from "../server/src/gen/pulsewire/options/v1/access_pb.js";
import { contractServices } from "../server/src/services.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

/** What the contract says of the roles, written out once more: `Scope` in options/v1/access.proto. */
const reads = [
  Scope.EVENTS_READ,
  Scope.METRICS_READ,
  Scope.FUNCTIONS_READ,
  Scope.PROGRESS_READ,
  Scope.WEBHOOKS_READ,
  Scope.TENANT_READ,
];
const writes = [
  Scope.EVENTS_WRITE,
  Scope.METRICS_WRITE,
  Scope.PROGRESS_WRITE,
  Scope.FUNCTIONS_WRITE,
  Scope.FUNCTIONS_INVOKE,
];
const administration = [
  Scope.EVENTS_ADMIN,
  Scope.METRICS_ADMIN,
  Scope.WEBHOOKS_WRITE,
  Scope.TENANT_ADMIN,
  Scope.AUDIT_READ,
];
const grants: Record<string, readonly Scope[]> = {
  OWNER: [...reads, ...writes, ...administration],
  ADMIN: [...reads, ...writes, ...administration],
  MEMBER: [...reads, ...writes],
  VIEWER: reads,
};

const methods = contractServices.flatMap(({ methods }) => methods as readonly DescMethod[]);
const allScopes = Object.values(Scope).filter(
  (scope) => typeof scope === "number" && scope !== Scope.UNSPECIFIED,
);

/** How far an empty call gets: refused for want of credentials or rights, or let through to the method. */
type Verdict = "no credentials" | "no rights" | "let through";

async function tryCall(transport: Transport, method: DescMethod): Promise<Verdict> {
  const client = createClient(method.parent, transport) as Record<
    string,
    (input: unknown, options: object) => unknown
  >;
  const deadline = AbortSignal.timeout(5_000);
  const input = /client|bidi/.test(method.methodKind) ? (async function* () {})() : {};
  try {
    const answer = client[method.localName]?.(input, { signal: deadline });
    if (method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming") {
      for await (const _ of answer as AsyncIterable<unknown>) break;
    } else {
      await answer;
    }
    return "let through";
  } catch (thrown) {
    const error = ConnectError.from(thrown);
    assert.ok(!deadline.aborted, `${method.name} did not answer`);
    const reason = error.findDetails(ErrorInfoSchema)[0]?.reason;
    if (error.code === Code.Unauthenticated && reason === "MISSING_CREDENTIALS") return "no credentials";
    if (error.code === Code.PermissionDenied && reason === "MISSING_SCOPE") return "no rights";
    return "let through";
  }
}

function expected(method: DescMethod, held: readonly Scope[] | undefined): Verdict {
  const { rule } = getOption(method, access);
  if (rule.case === "public") return "let through";
  if (held === undefined) return "no credentials";
  if (rule.case === "authenticated") return "let through";
  assert.equal(rule.case, "scopes");
  return rule.value.anyOf.some((scope) => held.includes(scope)) ? "let through" : "no rights";
}

describe("every method with every kind of caller", () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer();
  });
  after(() => server.stop());

  async function checkAll(
    headers: Record<string, string>,
    held: readonly Scope[] | undefined,
  ): Promise<void> {
    using session = grpcSession(server.url, headers);
    for (const method of methods) {
      // These would end the caller's own session in the middle of the round; test/auth-sessions.test.ts has them.
      if (held && ["Logout", "ChangePassword"].includes(method.name)) continue;
      const verdict = await tryCall(session.transport, method);
      // A handler may ask for more than the rule; what the rule refuses must never get through.
      if (getOption(method, access).rule.case === "authenticated" && held) continue;
      assert.equal(verdict, expected(method, held), `${method.parent.name}/${method.name}`);
    }
  }

  test("nobody", () => checkAll({}, undefined));

  for (const scope of allScopes.filter((scope) => scope !== Scope.PLATFORM_ADMIN)) {
    test(`a key with ${Scope[scope as Scope]} alone`, async () => {
      using session = grpcSession(server.url, { authorization: `Bearer ${server.tenant.token}` });
      const auth = createClient(AuthService, session.transport);
      const { secret } = await auth.createApiKey({ name: "one scope", scopes: [scope as Scope] });
      await checkAll({ "x-api-key": secret }, [scope as Scope]);
    });
  }

  for (const [role, held] of Object.entries(grants)) {
    test(`a person who is ${role}`, async () => {
      await server.database.superuser.query("update users set role = $1 where tenant_id = $2", [
        role,
        server.tenant.tenantId,
      ]);
      using session = grpcSession(server.url);
      const { email, password, slug } = server.tenant;
      const login = await createClient(AuthService, session.transport).login({
        email,
        password,
        tenantSlug: slug,
      });
      await checkAll({ authorization: `Bearer ${login.accessToken}` }, held);
    });
  }
});
