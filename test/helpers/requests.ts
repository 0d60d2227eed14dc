import { randomUUID } from "node:crypto";
import { type DescMethod, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { violationsOf } from "../../server/src/rpc/validate.ts";

let count = 0;
const unique = (word: string) => `${word}-${++count}-${randomUUID().slice(0, 8)}`;

const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString();
const anHourAgo = () => new Date(Date.now() - 3_600_000).toISOString();
const event = () => ({
  eventType: "sample.made",
  title: unique("event"),
  userId: "someone",
  sessionId: "a session",
  timestamp: anHourAgo(),
});
const progress = { clientKrn: "krn:nobody:client:c1", filename: "file.csv" };
const alertRule = () => ({
  name: unique("rule"),
  metricName: "load",
  threshold: { comparison: "COMPARISON_GREATER", value: 1 },
});
const jwks = JSON.stringify({
  keys: [
    { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", kid: "k", alg: "EdDSA" },
  ],
});

/** Requests of methods that need more than ids: each is valid, and names nothing that there is. */
const samples: Record<string, () => JsonObject> = {
  RegisterTenant: () => ({ name: "T", slug: unique("t"), contactEmail: `${unique("t")}@sample.example` }),
  Login: () => ({ email: "nobody@sample.example", password: "not the right one", tenantSlug: unique("t") }),
  RefreshToken: () => ({ refreshToken: "pwr_none" }),
  ChangePassword: () => ({ currentPassword: "not the right one", newPassword: unique("a new password") }),
  RecoverPassword: () => ({
    email: "nobody@sample.example",
    tenantSlug: unique("t"),
    code: "000000",
    newPassword: unique("a new password"),
  }),
  RequestCode: () => ({ email: "nobody@sample.example" }),
  VerifyCode: () => ({ email: "nobody@sample.example", code: "000000" }),
  IssueDevelopmentToken: () => ({ userId: unique("u") }),
  CreateTenant: () => ({ name: "T", slug: unique("t"), contactEmail: `${unique("t")}@sample.example` }),
  UpdateTenant: () => ({ name: unique("T"), updateMask: "name" }),
  InviteUser: () => ({ email: `${unique("someone")}@sample.example`, role: "ROLE_VIEWER" }),
  UpdateUser: () => ({ displayName: unique("Someone"), updateMask: "displayName" }),
  CreateApiKey: () => ({ name: unique("key") }),
  CreateIdentityProvider: () => ({
    name: unique("provider"),
    issuer: `https://${unique("issuer")}.example`,
    audiences: ["sample"],
    jwksJson: jwks,
  }),
  IngestEvent: () => ({ event: event() }),
  IngestEvents: () => ({ events: [event()] }),
  StreamEvents: () => ({ sequence: "1", events: [event()] }),
  GetEvent: () => ({ eventId: randomUUID() }),
  WatchEvents: () => ({ backlog: 100 }),
  DeleteUserEvents: () => ({ userId: unique("u") }),
  WriteSamples: () => ({
    storeId: randomUUID(),
    samples: [{ name: "load", value: 1 }],
    series: [{ name: "load", baseTime: new Date().toISOString(), offsetsMs: [0], values: [1] }],
  }),
  CreateStore: () => ({ name: unique("store") }),
  UpdateStore: () => ({ description: unique("description"), updateMask: "description" }),
  CreateAlertRule: () => ({ spec: alertRule() }),
  UpdateAlertRule: () => ({ spec: alertRule() }),
  BacktestAlertRule: () => ({ spec: alertRule(), start: anHourAgo(), end: inAnHour() }),
  CreateSilence: () => ({ spec: { storeId: randomUUID(), endsAt: inAnHour(), reason: "a sample" } }),
  CreateFunction: () => ({ name: unique("f").slice(0, 40), image: "sample" }),
  GetFunction: () => ({ name: unique("f") }),
  UpdateFunction: () => ({ name: unique("f"), image: "sample", updateMask: "image" }),
  DeleteFunction: () => ({ name: unique("f") }),
  InvokeFunction: () => ({ name: unique("f") }),
  StreamLogs: () => ({ name: unique("f") }),
  ReportProgress: () => ({ ...progress, counts: { done: "1" } }),
  GetProgress: () => progress,
  ListLineIssues: () => progress,
  ExportLineIssues: () => progress,
  CreateWebhook: () => ({ url: "https://sample.example/hook", eventTypes: ["event.processed"] }),
  UpdateWebhook: () => ({ description: unique("description"), updateMask: "description" }),
};

/** A valid request of any method; throws where a new method needs one to be written above. */
export function sampleRequest(method: DescMethod): JsonObject {
  const request: JsonObject = { ...samples[method.name]?.() };
  const missing = violationsOf(method.input, fromJson(method.input, request));
  for (const { field, rule } of missing) {
    const name = method.input.fields.find((found) => found.name === field)?.jsonName;
    if (name && rule === "string.uuid_empty") request[name] = randomUUID();
  }
  const [wrong] = violationsOf(method.input, fromJson(method.input, request));
  if (wrong) throw new Error(`${method.name} needs a sample: ${wrong.field}: ${wrong.description}`);
  return request;
}
