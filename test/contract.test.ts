import assert from "node:assert/strict";
import { test } from "node:test";
import type { DescMethod } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { http } from "../server/src/gen/google/api/annotations_pb.js";
import type { HttpRule } from "../server/src/gen/google/api/http_pb.js";
import { accessTable } from "../server/src/rpc/access.ts";
import { allServices, contractServices } from "../server/src/services.ts";

const methods: DescMethod[] = contractServices.flatMap(({ methods }) => methods as readonly DescMethod[]);
const nameOf = (method: DescMethod) => `${method.parent.name}/${method.name}`;
const isRead = (method: DescMethod) => method.idempotency === Idempotency.NO_SIDE_EFFECTS;

function bindingsOf(method: DescMethod): HttpRule[] {
  if (!hasOption(method, http)) return [];
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings];
}

/** The least that each service offers. */
const leastCalls: Record<string, string> = {
  AuthService:
    "RegisterTenant Login RefreshToken Logout ChangePassword ResetPassword RequestCode VerifyCode IssueDevelopmentToken " +
    "GetMe CreateTenant GetTenant ListTenants UpdateTenant GetTenantStats InviteUser ListUsers UpdateUser RemoveUser " +
    "CreateApiKey ListApiKeys RotateApiKey RevokeApiKey CreateIdentityProvider ListIdentityProviders " +
    "DeleteIdentityProvider ListAuditEntries VerifyAuditLog",
  IngestionService:
    "IngestEvent IngestEvents StreamEvents GetEvent ListEvents WatchEvents ExportEvents DeleteUserEvents GetIngestStats " +
    "GetAnalytics ListDeadLetters ReplayDeadLetters",
  MetricsService:
    "WriteSamples ListSeries ListMetrics QuerySamples CreateStore GetStore ListStores UpdateStore DeleteStore GetStoreStatus " +
    "CreateAlertRule GetAlertRule ListAlertRules UpdateAlertRule DeleteAlertRule BacktestAlertRule ListAlerts GetAlert " +
    "AcknowledgeAlert WatchAlerts CreateSilence ListSilences DeleteSilence GetUsage",
  FunctionsService:
    "CreateFunction GetFunction ListFunctions UpdateFunction DeleteFunction InvokeFunction GetInvocation " +
    "ListInvocations WaitInvocation CancelInvocation StreamLogs",
  ProgressService: "ReportProgress GetProgress ListProgress ListLineIssues ExportLineIssues WatchProgress",
  WebhooksService:
    "CreateWebhook GetWebhook ListWebhooks UpdateWebhook DeleteWebhook RotateWebhookSecret TestWebhook ListDeliveries " +
    "ReplayDelivery",
};

test("the contract holds every call of the design", () => {
  assert.deepEqual(
    contractServices.map(({ typeName }) => typeName.split(".")[1]),
    ["auth", "ingestion", "metrics", "functions", "progress", "webhooks"],
  );
  const names = new Set(methods.map(nameOf));
  for (const [service, calls] of Object.entries(leastCalls)) {
    for (const call of calls.split(" "))
      assert.ok(names.has(`${service}/${call}`), `${service}/${call} is missing`);
  }
});

test("every method of the port has an access rule", () => {
  const table = accessTable(allServices);
  assert.equal(table.size, allServices.flatMap(({ methods }) => methods).length);
  const open = [...table].filter(([, rule]) => rule.kind === "public").map(([method]) => nameOf(method));
  assert.deepEqual(open.filter((name) => name.startsWith("AuthService/")).sort(), [
    "AuthService/IssueDevelopmentToken",
    "AuthService/Login",
    "AuthService/RecoverPassword",
    "AuthService/RefreshToken",
    "AuthService/RegisterTenant",
    "AuthService/RequestCode",
    "AuthService/VerifyCode",
  ]);
  const others = open.filter((name) => !name.startsWith("AuthService/"));
  assert.ok(
    others.every((name) => /^(Health|ServerReflection)\//.test(name)),
    others.join(),
  );
});

test("open reads of the public tenant are reads", () => {
  for (const [method, rule] of accessTable(contractServices)) {
    if (rule.openInPublicTenant) assert.ok(isRead(method), nameOf(method));
  }
});

test("every unary method has a path, and no two methods share one", () => {
  const seen = new Map<string, string>();
  for (const method of methods) {
    const bindings = bindingsOf(method);
    if (method.methodKind === "unary") assert.ok(bindings.length > 0, `${nameOf(method)} has no path`);
    for (const { pattern } of bindings) {
      assert.equal(typeof pattern.value, "string", nameOf(method));
      const key = `${pattern.case} ${String(pattern.value).replaceAll(/\{[^}]*\}/g, "{}")}`;
      assert.equal(seen.get(key), undefined, `${key} belongs to ${seen.get(key)} and ${nameOf(method)}`);
      seen.set(key, nameOf(method));
    }
  }
});

test("reads are GETs and mutations are not", () => {
  for (const method of methods) {
    for (const { pattern } of bindingsOf(method)) {
      if (pattern.case === "get") assert.ok(isRead(method), `${nameOf(method)} is a GET with side effects`);
      if (pattern.case === "delete")
        assert.ok(!isRead(method), `${nameOf(method)} deletes and says it only reads`);
    }
  }
});

test("path variables and bodies are fields of the request", () => {
  for (const method of methods) {
    const fields = new Set(method.input.fields.map(({ name }) => name));
    for (const { pattern, body } of bindingsOf(method)) {
      const variables = [...String(pattern.value).matchAll(/\{([^}=]*)/g)].map(([, name]) => name ?? "");
      for (const name of variables) assert.ok(fields.has(name), `${nameOf(method)}: no field ${name}`);
      if (body && body !== "*") assert.ok(fields.has(body), `${nameOf(method)}: no field ${body}`);
    }
  }
});

/** Calls whose items carry ids of their own, so that sending them again is harmless without a request id. */
const naturallyIdempotent = [
  "IngestionService/IngestEvent",
  "IngestionService/IngestEvents",
  "IngestionService/StreamEvents",
  "MetricsService/WriteSamples",
  "ProgressService/ReportProgress",
];

test("every mutation takes a request id", () => {
  for (const method of methods) {
    if (isRead(method) || naturallyIdempotent.includes(nameOf(method))) continue;
    const field = method.input.fields.find(({ name }) => name === "request_id");
    assert.equal(field?.number, 15, `${nameOf(method)} has no request_id = 15`);
  }
});

test("lists are paged by opaque tokens, streams by cursors", () => {
  for (const method of methods) {
    const input = method.input.fields.map(({ name }) => name);
    const output = method.output.fields.map(({ name }) => name);
    if (/^List/.test(method.name)) {
      assert.ok(input.includes("page_size") && input.includes("page_token"), nameOf(method));
      assert.ok(output.includes("next_page_token"), nameOf(method));
    }
    if (method.methodKind === "server_streaming") {
      assert.ok(input.includes("cursor"), `${nameOf(method)} cannot be resumed`);
      assert.ok(output.includes("cursor"), `${nameOf(method)} gives no cursor`);
    }
  }
});

/** The documented REST calls of the five systems, health and docs left out. */
const documented = [
  "POST /api/v1/auth/register/tenant AuthService/RegisterTenant",
  "POST /api/v1/auth/login AuthService/Login",
  "POST /api/v1/ingestion/events IngestionService/IngestEvent",
  "POST /v1/metrics/batch MetricsService/WriteSamples",
  "GET /v1/stores MetricsService/ListStores",
  "GET /v1/stores/{} MetricsService/GetStore",
  "GET /v1/stores/{}/status MetricsService/GetStoreStatus",
  "GET /v1/stores/{}/metrics MetricsService/QuerySamples",
  "GET /v1/alerts MetricsService/ListAlerts",
  "POST /v1/alerts/{}/acknowledge MetricsService/AcknowledgeAlert",
  "POST /v1/admin/tenants AuthService/CreateTenant",
  "GET /v1/admin/tenants/{}/stats AuthService/GetTenantStats",
  "POST /v1/admin/tenants/{}/stores MetricsService/CreateStore",
  "POST /v1/admin/api-keys/generate AuthService/CreateApiKey",
  "POST /api/v1/events IngestionService/IngestEvent",
  "POST /api/v1/events/batch IngestionService/IngestEvents",
  "GET /api/v1/events/stats IngestionService/GetIngestStats",
  "GET /api/v1/analytics/metrics IngestionService/GetAnalytics",
  "POST /api/auth/request-code AuthService/RequestCode",
  "POST /api/auth/verify AuthService/VerifyCode",
  "POST /api/auth/api-key AuthService/CreateApiKey",
  "GET /api/auth/me AuthService/GetMe",
  "POST /auth/token AuthService/IssueDevelopmentToken",
  "POST /v1/functions FunctionsService/CreateFunction",
  "GET /v1/functions FunctionsService/ListFunctions",
  "GET /v1/functions/{} FunctionsService/GetFunction",
  "DELETE /v1/functions/{} FunctionsService/DeleteFunction",
  "POST /v1/functions/{}:invoke FunctionsService/InvokeFunction",
  "GET /v1/functions/{}/logs FunctionsService/StreamLogs",
  "POST /v1/webhooks WebhooksService/CreateWebhook",
  "POST /clients/{}/progress ProgressService/ReportProgress",
  "GET /clients/{}/progress ProgressService/ListProgress",
];

test("every documented REST call of the five systems has its path", () => {
  const paths = new Set(
    methods.flatMap((method) =>
      bindingsOf(method).map(
        ({ pattern }) =>
          `${pattern.case?.toUpperCase()} ${String(pattern.value).replaceAll(/\{[^}]*\}/g, "{}")} ${nameOf(method)}`,
      ),
    ),
  );
  assert.deepEqual(
    documented.filter((call) => !paths.has(call)),
    [],
  );
});
