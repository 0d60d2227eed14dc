/**
 * The same call over REST and over gRPC gives the same effect, answer and error, for every unary method and each of its paths:
 * generated from the contract. Two servers hold the same tenant; one is called over gRPC, the other over REST, in the same order,
 * so that an effect that differs shows in the answers and lists that follow, and in the rows at the end.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  createRegistry,
  type DescMethod,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";
import { type Binding, bindingsOf } from "../server/src/rest/bindings.ts";
import { type Dialect, methodKey } from "../server/src/rest/dialect.ts";
import { dialectOf } from "../server/src/rest/dialects/index.ts";
import { spell } from "../server/src/rest/spell.ts";
import { violationsOf } from "../server/src/rpc/validate.ts";
import { contractServices } from "../server/src/services.ts";
import { sampleRequest } from "./helpers/requests.ts";
import { restClient } from "./helpers/rest.ts";
import { toRestRequest } from "./helpers/rest-request.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";
import { stringFields } from "./helpers/string-fields.ts";
import { makeVictim, readPositions, type Victim, victimsValue } from "./helpers/victim.ts";
import { callAny, openWires } from "./helpers/wires.ts";

interface Twin {
  readonly server: TestServer;
  readonly victim: Victim;
}

const settlingAttempts = 10;
const settlingPauseMs = 500;

const settings = { PULSEWIRE_DEVELOPMENT_TOKENS: "on" };
const namesSomething = /(^|_)(ids?|by|krns?|slug|token|cursor|etag|contains|prefix)$|names?$/;

/** Reads first, and last what would end a session or a resource. */
function order({ method }: Binding): number {
  if (["Logout", "ChangePassword"].includes(method.name)) return 3;
  if (/^(Delete|Remove|Revoke)/.test(method.name)) return 2;
  return method.idempotency === Idempotency.NO_SIDE_EFFECTS ? 0 : 1;
}

const bindings = bindingsOf(contractServices)
  .filter(({ method }) => method.methodKind === "unary")
  .toSorted((a, b) => order(a) - order(b));

describe("REST and gRPC", () => {
  let overGrpc: Twin;
  let overRest: Twin;

  before(async () => {
    [overGrpc, overRest] = [await makeTwin(), await makeTwin()];
  });
  after(async () => {
    await overGrpc.server.stop();
    await overRest.server.stop();
  });

  test("every unary method but streams has a path", () => {
    const served = new Set(bindings.map(({ method }) => method));
    const all = contractServices.flatMap(({ methods }) => methods as readonly DescMethod[]);
    assert.deepEqual(
      all.filter((method) => method.methodKind === "unary" && !served.has(method)).map(({ name }) => name),
      [],
    );
  });

  for (const binding of bindings) {
    const title = `${binding.method.name} at ${binding.httpMethod} ${binding.template.text}`;
    test(title, async () => {
      const sample = { ...leastRequest(binding), ...sampleRequest(binding.method) };
      const requests = await Promise.all(
        [overGrpc, overRest].map((twin) => requestOf(binding.method, sample, twin)),
      );
      await compare(binding, requests as [JsonObject, JsonObject], (twin) => ({
        authorization: `Bearer ${twin.victim.tenant.token}`,
      }));
      await compare(binding, [sample, sample], () => ({}));
      await compare(binding, [sample, sample], () => ({ "x-api-key": "evp_wrong" }));
      // The Event Processor asks for more than the contract: see its own test.
      if (dialectOf(binding.template.text).name === "event-processor") return;
      const least = leastRequest(binding);
      await compare(binding, [least, least], (twin) => ({ "x-api-key": twin.victim.tenant.apiKey }));
    });
  }

  /** Compares; a read again for some seconds, for what goes on in the background ends on the two at different moments. */
  async function compare(...given: Parameters<typeof compareOnce>): Promise<void> {
    const reads = given[0].method.idempotency === Idempotency.NO_SIDE_EFFECTS;
    for (let attempt = 1; ; attempt++) {
      try {
        return await compareOnce(...given);
      } catch (error) {
        if (!reads || attempt === settlingAttempts) throw error;
        await sleep(settlingPauseMs);
      }
    }
  }

  /** Calls the one over gRPC and the other over REST, and compares what came back. */
  async function compareOnce(
    binding: Binding,
    [grpcRequest, restRequest]: readonly [JsonObject, JsonObject],
    headersFor: (twin: Twin) => Record<string, string>,
  ): Promise<void> {
    const { method } = binding;
    using wires = openWires(overGrpc.server.url);
    const grpc = await callAny(wires.transports.gRPC, method, grpcRequest, headersFor(overGrpc));
    const line = toRestRequest(binding, restRequest);
    const path = line.path.split("?", 1)[0] ?? "";
    const dialect = dialectOf(path);
    const rest = await restClient(overRest.server.url, headersFor(overRest))(
      line.method,
      line.path,
      line.body,
    );
    const said = JSON.stringify({ rest: rest.body, grpc: grpc.error?.message ?? "answered" }).slice(0, 2_000);
    const expected = grpc.error
      ? expectedError(dialect, grpc.error, path)
      : expectedAnswer(dialect, method, grpc.messages[0] as Message, grpcRequest);
    assert.equal(rest.status, expected.status, said);
    assert.deepEqual(normalize(rest.body), normalize(expected.body), said);
  }
});

async function makeTwin(): Promise<Twin> {
  const server = await startTestServer(settings);
  return { server, victim: await makeVictim(server) };
}

/** The request with the twin's own ids. */
async function requestOf(
  method: DescMethod,
  sample: JsonObject,
  { server, victim }: Twin,
): Promise<JsonObject> {
  const attacker = { headers: {}, isVictim: true, refreshToken: async () => "pwr_none" };
  const read = (of: DescMethod) => readPositions(server.url, victim, of);
  let request = sample;
  for (const field of stringFields(method.input).filter(({ name }) => namesSomething.test(name))) {
    if (field.name === "request_id" || !field.isIn(sample)) continue;
    const value = await victimsValue(field, method, victim, attacker, read);
    if (value === undefined) continue;
    const changed = field.set(request, value);
    if (violationsOf(method.input, fromJson(method.input, changed)).length === 0) request = changed;
  }
  return request;
}

/** What cannot be left out over REST, and nothing more: most methods refuse it and say why. */
function leastRequest({ method, template, body }: Binding): JsonObject {
  const inPath = template.variables.map(({ field }) =>
    method.input.fields.find(({ name }) => name === field),
  );
  const named = Object.fromEntries(inPath.map((field) => [field?.jsonName ?? "", "none"]));
  return body === "" || body === "*" ? named : { ...named, [body]: {} };
}

const registry = createRegistry(BadRequestSchema, ErrorInfoSchema);

function expectedAnswer(dialect: Dialect, method: DescMethod, message: Message, request: JsonObject) {
  const spelled = spell(method.output, message as never, dialect.spelling, registry);
  const speak = dialect.methods[methodKey(method)]?.answer;
  return speak ? speak(spelled, request) : dialect.answer(method, spelled);
}

function expectedError(dialect: Dialect, error: ConnectError, path: string) {
  return dialect.failure(ConnectError.from(error), path);
}

/** What two servers cannot have in common: ids, times, secrets and what is made of them. */
function normalize(body: JsonValue | undefined): unknown {
  const text = JSON.stringify(body ?? null)
    .replace(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "<id>")
    .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, "<time>")
    .replace(
      /"(etag|prefix|secret|temporaryPassword|temporary_password|nextPageToken|token|apiKey|jwks|hash|headHash|previousHash|lastHash|userAgent)":"[^"]*"/gi,
      '"$1":"<made>"',
    )
    .replace(/evp_[\w-]+/g, "<key>")
    .replace(/issuer-\d+-[0-9a-f]+/g, "<issuer>")
    .replace(/-invoke-\d+(-\d+)?/g, "-invoke-<time>")
    .replace(/("pending"|"total"|"duration"|"latency"):"[\d.]+s"/g, '$1:"<made>"')
    .replace(/"lastUsedAddress":"[^"]*"|"lastUsedAt":"[^"]*",?/g, (found) =>
      found.includes("At") ? "" : '"lastUsedAddress":""',
    )
    .replace(/("rate"|"lag"|"ingestionRate"):"?[\d.]+s?"?/g, '$1:"<made>"')
    .replace(/("calls"|"timestampsMs"|"expiresIn"|"expires_in"):(\[[\d,]+\]|"?\d+"?)/g, '$1:"<made>"')
    .replace(/[\d.]+ s\b/g, "<seconds>");
  const found = JSON.parse(text) as unknown;
  const { deadLetters, deliveries, eventsOverTime } = (found ?? {}) as Record<string, unknown>;
  // The events of the two may lie on either side of a minute.
  if (Array.isArray(eventsOverTime)) {
    (found as Record<string, unknown>).eventsOverTime = eventsOverTime.filter(({ count }) => count !== "0");
  }
  // Those of one batch were given up, and those of one moment made, in no order.
  for (const list of [deadLetters, deliveries])
    if (Array.isArray(list)) list.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  return found;
}
