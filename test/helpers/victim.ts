import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type DescMethod, fromJson, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient } from "@connectrpc/connect";
import { newResourceId } from "../../server/src/auth/ids.ts";
import { withTenant } from "../../server/src/db/tenant.ts";
import { appendLines, endSource, openSource } from "../../server/src/functions/logs/store.ts";
import type { Unit } from "../../server/src/functions/runtime/runtime.ts";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { Role } from "../../server/src/gen/pulsewire/auth/v1/user_pb.js";
import { FunctionsService } from "../../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { AlertState, Comparison } from "../../server/src/gen/pulsewire/metrics/v1/alert_pb.js";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { WebhooksService } from "../../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { insertDelivery } from "../../server/src/webhooks/delivery-store.ts";
import { bearer, withKey } from "./platform.ts";
import { untilProcessed } from "./recount.ts";
import { sampleRequest } from "./requests.ts";
import type { TestServer, TestTenant } from "./server.ts";
import type { StringField } from "./string-fields.ts";
import { callAny, openWires } from "./wires.ts";

/** A word that is in every name that the victim gave. */
export const mark = "quokka";

/** A tenant that has two of each resource that can be made, so that lists have a second page. */
export interface Victim {
  readonly tenant: TestTenant;
  readonly ownerId: string;
  readonly memberId: string;
  /** Somebody whose password may be tried. */
  readonly target: string;
  readonly apiKeyId: string;
  readonly storeId: string;
  readonly providerId: string;
  readonly webhookId: string;
  /** A delivery to it. */
  readonly deliveryId: string;
  /** The request id of all mutations that made this. */
  readonly requestId: string;
  readonly eventId: string;
  /** Where streams ended before most of what they give was there, by the name of the method. */
  readonly cursors: Readonly<Record<string, string>>;
  readonly deadLetterId: string;
  readonly functionId: string;
  /** Cancelled, so that nobody waits for its end. */
  readonly invocationId: string;
  readonly ruleId: string;
  readonly alertId: string;
  readonly silenceId: string;
}

/** Makes it, through the API. */
export async function makeVictim(server: TestServer): Promise<Victim> {
  const tenant = await server.register(mark);
  using wires = openWires(server.url);
  const auth = createClient(AuthService, wires.transports.gRPC);
  const metrics = createClient(MetricsService, wires.transports.gRPC);
  const as = bearer(tenant.token);
  const cursors: Record<string, string> = {};
  for await (const { cursor } of auth.exportAuditEntries({}, as)) cursors.ExportAuditEntries = cursor;
  const requestId = randomUUID();
  const target = `target@${mark}.example`;
  const { user: owner } = await auth.getMe({}, as).then(({ principal }) => {
    assert.equal(principal.case, "user");
    return { user: principal.value };
  });
  const { user: member } = await auth.inviteUser(
    { email: `member@${mark}.example`, displayName: `${mark} member`, role: Role.MEMBER, requestId },
    as,
  );
  await auth.inviteUser({ email: target, role: Role.VIEWER }, as);
  await auth.createApiKey({ name: `${mark} key`, requestId }, as);
  const key = withKey(tenant.apiKey);
  const { principal: apiKey } = await auth.getMe({}, key);
  const { store } = await metrics.createStore({ name: `${mark} store`, requestId }, as);
  const { store: second } = await metrics.createStore({ name: `second ${mark} store` }, key);
  for (const { id = "" } of [store ?? {}, second ?? {}] as { id?: string }[]) {
    const samples = [
      { name: `${mark}_load`, value: 4711, labels: { room: `${mark} room` } },
      { name: `${mark}_heat`, value: 4712 },
    ];
    await metrics.writeSamples({ storeId: id, samples }, as);
  }
  for await (const { cursor } of metrics.watchAlerts({}, as)) {
    cursors.WatchAlerts = cursor;
    break;
  }
  const alerting = await makeAlerts(metrics, as, second?.id ?? "");
  const events = ["1", "2"].map((number) => ({
    eventId: `${mark}-event-${number}`,
    eventType: `${mark}.happened`,
    title: `The ${mark} has happened`,
    userId: `${mark}-user`,
    sessionId: `${mark}-session`,
    payload: { secret: `of the ${mark}` },
  }));
  const progress = createClient(ProgressService, wires.transports.gRPC);
  for await (const { cursor } of progress.watchProgress({ skipSnapshot: true }, as)) {
    cursors.WatchProgress = cursor;
    break;
  }
  const clientKrn = `krn:${mark}:client:c1`;
  const errors = [1n, 2n].map((line) => ({
    line,
    message: `the ${mark} is missing`,
    rawLine: `${mark},${line}`,
  }));
  const file = { clientKrn, filename: `${mark}.csv`, counts: { done: 4711n } };
  await progress.reportProgress({ ...file, updateId: `${mark}-update`, errors }, as);
  for await (const { cursor } of progress.exportLineIssues(file, as)) cursors.ExportLineIssues = cursor;
  const later = errors.map((issue) => ({ ...issue, line: issue.line + 2n }));
  await progress.reportProgress({ ...file, errors: later }, as);
  await progress.reportProgress({ ...file, filename: `second ${mark}.csv`, updateId: `${mark}-update` }, as);
  const ingestion = createClient(IngestionService, wires.transports.gRPC);
  for await (const { cursor } of ingestion.watchEvents({}, as)) {
    cursors.WatchEvents = cursor;
    break;
  }
  await ingestion.ingestEvents({ events: events.slice(0, 1) }, as);
  for await (const { cursor } of ingestion.exportEvents({}, as)) cursors.ExportEvents = cursor;
  await ingestion.ingestEvents({ events: events.slice(1) }, as);
  await untilProcessed({ getIngestStats: (request) => ingestion.getIngestStats(request, as) });
  const deadLetterId = await giveUpEvents(server, tenant.tenantId);
  const hooks = createClient(WebhooksService, wires.transports.gRPC);
  const url = `https://${mark}.example/hook`;
  const { webhook } = await hooks.createWebhook({ url, requestId }, as);
  await hooks.createWebhook({ url: `${url}/second`, description: `${mark} webhook` }, as);
  const deliveryId = await makeDeliveries(server, tenant.tenantId, webhook?.id ?? "");
  const provider = { ...sampleRequest(AuthService.method.createIdentityProvider), name: `${mark} provider` };
  const { createIdentityProvider } = AuthService.method;
  const make = (request: JsonObject) =>
    auth.createIdentityProvider(fromJson(createIdentityProvider.input, request), as);
  const { identityProvider } = await make({ ...provider, requestId });
  await make({ ...provider, name: `second ${mark} provider`, audiences: [`${mark} audience`] });
  const functions = createClient(FunctionsService, wires.transports.gRPC);
  const { function: fn } = await functions.createFunction(
    { name: `${mark}-function`, image: `${mark}/image`, env: { OF: mark }, requestId },
    as,
  );
  await functions.createFunction({ name: `${mark}-second-function`, image: `${mark}/image` }, key);
  const { invocation } = await functions.invokeFunction({ name: `${mark}-function`, requestId }, as);
  await functions.cancelInvocation({ invocationId: invocation?.id ?? "", reason: `of the ${mark}` }, as);
  await functions.invokeFunction({ name: `${mark}-function` }, key);
  for (const text of [`the ${mark} speaks`, `the ${mark} is silent`]) {
    await writeLog(server, tenant.tenantId, fn?.id ?? "", invocation?.id ?? "", text);
    if (cursors.StreamLogs) break;
    for await (const { cursor } of functions.streamLogs({ name: `${mark}-function` }, as)) {
      cursors.StreamLogs = cursor;
    }
  }
  await functionsAreSettled(server, tenant.tenantId);
  const found = {
    functionId: fn?.id ?? "",
    invocationId: invocation?.id ?? "",
    ownerId: owner.id,
    memberId: member?.id ?? "",
    apiKeyId: apiKey.value?.id ?? "",
    storeId: second?.id ?? "",
    providerId: identityProvider?.id ?? "",
    deadLetterId,
    webhookId: webhook?.id ?? "",
    deliveryId,
    ...alerting,
  };
  assert.ok(Object.values(found).every(Boolean));
  return { ...found, tenant, target, requestId, cursors, eventId: `${mark}-event-1` };
}

/** Two rules, two alerts of one of them that fire, and two silences. Gives the alert of the store. */
async function makeAlerts(
  metrics: Client<typeof MetricsService>,
  as: ReturnType<typeof bearer>,
  storeId: string,
): Promise<Pick<Victim, "ruleId" | "alertId" | "silenceId">> {
  const condition = { case: "threshold", value: { comparison: Comparison.GREATER, value: 4_000 } } as const;
  const spec = {
    name: `${mark} rule`,
    metricName: `${mark}_load`,
    message: `the ${mark} is here`,
    condition,
  };
  const { rule } = await metrics.createAlertRule({ spec }, as);
  await metrics.createAlertRule({ spec: { ...spec, name: `second ${mark} rule`, disabled: true } }, as);
  const endsAt = timestampFromMs(Date.now() + 3_600_000);
  const silences = [];
  for (const target of [{ labels: { room: `second ${mark}` } }, { labels: { room: mark } }]) {
    const { silence } = await metrics.createSilence(
      { spec: { ...target, endsAt, reason: `the ${mark} sleeps` } },
      as,
    );
    silences.push(silence?.id ?? "");
  }
  const firing = [AlertState.FIRING];
  for (const end = Date.now() + 20_000; ; await sleep(50)) {
    const { alerts } = await metrics.listAlerts({ states: firing }, as);
    const alert = alerts.find((one) => one.storeId === storeId);
    if (alerts.length === 2 && alert)
      return { ruleId: rule?.id ?? "", alertId: alert.id, silenceId: silences[1] ?? "" };
    assert.ok(Date.now() < end, "no alert fires");
  }
}

/** As a worker does when it cannot process them, which no caller can bring about. Returns one of the dead letters' ids. */
async function giveUpEvents({ database }: TestServer, tenantId: string): Promise<string> {
  const { rows } = await database.superuser.query(
    `insert into event_dead_letters (tenant_id, id, event_row, reason, attempts)
     select tenant_id, gen_random_uuid(), id, $2, 5 from events where tenant_id = $1 returning id`,
    [tenantId, `the ${mark} was too much`],
  );
  return rows[0].id;
}

/** The worker has looked at the functions, and changes nothing of them any more. */
async function functionsAreSettled({ database }: TestServer, tenantId: string): Promise<void> {
  for (const end = Date.now() + 20_000; ; await sleep(50)) {
    const { rowCount } = await database.superuser.query(
      `select from functions where tenant_id = $1 and due_at is not null
       union all select from invocations where tenant_id = $1 and due_at is not null and phase = 'CANCELLED'`,
      [tenantId],
    );
    if (rowCount === 0) return;
    assert.ok(Date.now() < end, "the functions were not looked at");
  }
}

/** Lines as a container would have written them. */
async function writeLog(
  { context }: TestServer,
  tenantId: string,
  functionId: string,
  invocationId: string,
  text: string,
): Promise<void> {
  const unit = { tenantId, functionId, id: mark, replica: `${mark}-1`, invocationId, attempt: 1 } as Unit;
  const time = `${Date.now()}000000`;
  await withTenant(context.db, tenantId, async (trx) => {
    await openSource(trx, unit);
    await appendLines(trx, unit, [{ time, stream: 1, text, continues: false }], 1);
    await endSource(trx, unit);
  });
}

/**
 * Two deliveries that have ended, so that nothing changes them by itself. Returns the id of the last, which is of no alert rule
 * and so can be replayed.
 */
async function makeDeliveries({ context }: TestServer, tenantId: string, webhookId: string): Promise<string> {
  const rows = await withTenant(context.db, tenantId, async (trx) => {
    const make = (number: number, alertRuleIds: string[]) =>
      insertDelivery(trx, {
        tenant_id: tenantId,
        id: newResourceId(),
        receiver: webhookId,
        channel: "HTTP",
        webhook_id: webhookId,
        destination: `https://${mark}.example/hook`,
        message_id: newResourceId(),
        event_type: "alert.firing",
        payload: JSON.stringify({
          type: "alert.firing",
          timestamp: "",
          data: { message: `${mark} ${number}` },
        }),
        subject_ids: [toldAbout],
        alert_rule_ids: alertRuleIds,
        happenings: 1,
        status: "FAILED",
        created_at: new Date(),
        finished_at: new Date(),
      });
    return [await make(1, [toldAbout]), await make(2, [])];
  });
  return rows.at(-1)?.id ?? "";
}

/** Who calls: what they know of themselves is theirs, everything else is the victim's. */
export interface Attacker {
  readonly headers: Record<string, string>;
  /** Signs in, for a refresh token of their own. */
  refreshToken(): Promise<string>;
  readonly isVictim: boolean;
}

/** The alert, and the rule, that the victim's deliveries tell about. */
const toldAbout = randomUUID();

/**
 * The victim's value for a field of a request; undefined where the field names nothing of a tenant. Throws for fields that
 * nobody has thought about.
 */
export async function victimsValue(
  field: StringField,
  method: DescMethod,
  victim: Victim,
  attacker: Attacker,
  read: (method: DescMethod) => Promise<Record<string, string>>,
): Promise<string | undefined> {
  const give = values[field.name];
  assert.ok(
    give !== undefined,
    `${method.name}: ${field.path} looks like an id; say in helpers/victim.ts what the victim's value is`,
  );
  return typeof give === "string" ? give : await give({ field, method, victim, attacker, read });
}

interface Case {
  readonly field: StringField;
  readonly method: DescMethod;
  readonly victim: Victim;
  readonly attacker: Attacker;
  /** What the victim gets to see of the position in a list or of the version of a resource. */
  read(method: DescMethod): Promise<Record<string, string>>;
}
type Give = string | ((given: Case) => string | undefined | Promise<string | undefined>);

/** A name of what is made, or a word that is no name of a thing. */
const own = () => undefined;
const isIn = ({ method }: Case, ...services: { typeName: string }[]) =>
  services.some(({ typeName }) => method.parent.typeName === typeName);
const position = async ({ method, read, field }: Case) => (await read(method))[field.name] || "none";

const values: Record<string, Give> = {
  tenant_id: ({ victim }) => victim.tenant.tenantId,
  tenant_slug: mark,
  slug: mark,
  user_id(given) {
    if (given.method.name === "IssueDevelopmentToken") return mark;
    if (!isIn(given, AuthService)) return `${mark}-user`;
    return given.field.path === "user_id" ? given.victim.memberId : given.victim.ownerId;
  },
  created_by: ({ victim }) => victim.ownerId,
  api_key_id: ({ victim }) => victim.apiKeyId,
  resource_id: ({ victim }) => victim.storeId,
  identity_provider_id: ({ victim }) => victim.providerId,
  // A rule of every store: it outlives the store, and so do its alerts.
  store_id: ({ victim, method }) => (method.name === "UpdateAlertRule" ? undefined : victim.storeId),
  store_ids: ({ victim }) => victim.storeId,
  event_id: ({ victim }) => victim.eventId,
  session_id: `${mark}-session`,
  request_id: ({ victim }) => victim.requestId,
  refresh_token: ({ attacker }) => attacker.refreshToken(),
  page_token: position,
  cursor: (given) => given.victim.cursors[given.method.name] ?? position(given),
  etag: position,
  name_contains: mark,
  email_contains: mark,
  reason_contains: mark,
  name_prefix: mark,
  filename_prefix: mark,
  name(given) {
    const { field, method } = given;
    if (/^(Create|Register|Update(Tenant|Store))/.test(method.name)) return undefined;
    if (/^(spec|event)\b/.test(field.path)) return undefined;
    return isIn(given, FunctionsService) ? `${mark}-function` : `${mark}_load`;
  },
  metric_name: `${mark}_load`,
  function_name: `${mark}-function`,
  // Only a filter of one's own, which says nothing of whether there is such a function.
  function_names: own,
  filename: `${mark}.csv`,
  client_krn: `krn:${mark}:client:c1`,
  client_krns: `krn:${mark}:client:c1`,
  update_id: `${mark}-update`,
  alert_id: ({ victim }) => victim.alertId,
  alert_rule_id: (given) => (isIn(given, WebhooksService) ? toldAbout : given.victim.ruleId),
  alert_rule_ids: ({ victim }) => victim.ruleId,
  rule_id: ({ victim }) => victim.ruleId,
  silence_id: ({ victim }) => victim.silenceId,
  dead_letter_ids: ({ victim }) => victim.deadLetterId,
  function_id: ({ victim }) => victim.functionId,
  invocation_id: ({ victim }) => victim.invocationId,
  webhook_id: ({ victim }) => victim.webhookId,
  delivery_id: ({ victim }) => victim.deliveryId,
  subject_id: toldAbout,
  display_name: own,
  username: own,
  group_by: own,
};

/** Reads, as the victim, the next page's token, an export's cursor or the version of what a mutation is about. */
export async function readPositions(
  url: string,
  { tenant, memberId, storeId, webhookId, ruleId }: Victim,
  method: DescMethod,
): Promise<Record<string, string>> {
  const has = (...names: string[]) => method.input.fields.some(({ name }) => names.includes(name));
  if (!has("etag", "page_token", "cursor")) return {};
  using wires = openWires(url);
  const { headers } = bearer(tenant.token);
  if (method.name === "UpdateStore") {
    const metrics = createClient(MetricsService, wires.transports.gRPC);
    return { etag: (await metrics.getStore({ storeId }, { headers })).store?.etag ?? "" };
  }
  if (has("etag") && method.parent.typeName === WebhooksService.typeName) {
    const { webhook } = await createClient(WebhooksService, wires.transports.gRPC).getWebhook(
      { webhookId },
      { headers },
    );
    return { etag: webhook?.etag ?? "" };
  }
  if (method.name === "UpdateAlertRule") {
    const metrics = createClient(MetricsService, wires.transports.gRPC);
    return { etag: (await metrics.getAlertRule({ ruleId }, { headers })).rule?.etag ?? "" };
  }
  if (has("etag")) {
    const auth = createClient(AuthService, wires.transports.gRPC);
    const { users } = await auth.listUsers({}, { headers });
    const { tenant: own } = await auth.getTenant({ tenantId: tenant.tenantId }, { headers });
    const member = users.find(({ id }) => id === memberId);
    if (/Function$/.test(method.name)) {
      const functions = createClient(FunctionsService, wires.transports.gRPC);
      const { function: fn } = await functions.getFunction({ name: `${mark}-function` }, { headers });
      return { etag: fn?.etag ?? "" };
    }
    return { etag: (method.name === "UpdateTenant" ? own?.etag : member?.etag) ?? "" };
  }
  const size = has("page_size") ? { pageSize: 1 } : {};
  const sample = sampleRequest(method);
  const file = "clientKrn" in sample ? { clientKrn: `krn:${mark}:client:c1`, filename: `${mark}.csv` } : {};
  const request = { ...sample, ...file, ...size };
  const { messages } = await callAny(wires.transports.gRPC, method, request, headers);
  const { nextPageToken = "", cursor = "" } = (messages[0] ?? {}) as {
    nextPageToken?: string;
    cursor?: string;
  };
  return { page_token: nextPageToken, cursor };
}
