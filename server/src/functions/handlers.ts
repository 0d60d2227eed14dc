import type { ServiceImpl } from "@connectrpc/connect";
import { etagOf, newResourceId } from "../auth/ids.ts";
import { namespaceOf } from "../auth/tenants/messages.ts";
import { requireRoom } from "../auth/tenants/room.ts";
import { lockTenant } from "../auth/tenants/store.ts";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import type { FunctionState } from "../db/schema/functions.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { type TenantTransaction, withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { FunctionStatus } from "../gen/pulsewire/functions/v1/function_pb.js";
import type { FunctionsService } from "../gen/pulsewire/functions/v1/functions_service_pb.js";
import { enterAudit } from "../rpc/audit.ts";
import { callerOf } from "../rpc/caller.ts";
import { failure, notFound } from "../rpc/errors.ts";
import { emitWebhookEvent } from "../webhooks/emit.ts";
import { requireCapacity } from "./capacity.ts";
import { functionsChannel, invocationsChannel, logChannel, tell } from "./channels.ts";
import { cancelUnfinished } from "./invocations/store.ts";
import { functionEventData, functionMessage } from "./messages.ts";
import { pendingReason } from "./reasons.ts";
import { openSecrets, sealSecrets } from "./secrets.ts";
import { pathsOfUpdate, type Spec, specOf, type Template, updatedSpec } from "./spec.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;

/** What is wanted of functions; the reconciler does the rest. */
export function functionHandlers(context: Context): Partial<ServiceImpl<typeof FunctionsService>> {
  const { config, db, bus, keyring, logger } = context;

  const templateColumns = async (
    tenantId: string,
    functionId: string,
    number: number,
    template: Template,
  ) => ({
    tenant_id: tenantId,
    function_id: functionId,
    number,
    image: template.image,
    command: template.command,
    invocation_command: template.invocationCommand,
    env: JSON.stringify(template.env),
    secret_env_names: Object.keys(template.secretEnv).sort(),
    sealed_secrets: await sealSecrets(keyring, functionId, template),
    has_registry_credentials: template.registry !== undefined,
    cpu_millicores: template.cpuMillicores,
    memory_bytes: template.memoryBytes,
  });

  return {
    async createFunction(request, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      const id = newResourceId();
      const spec = specOf(request);
      const template = await templateColumns(tenantId, id, 1, spec.template);
      const made = await withTenant(db, tenantId, async (trx) => {
        const tenant = await requireRoom(trx, tenantId, "functions", config.tenants.limits);
        const namespace = namespaceOf(tenant);
        if (await store.findFunction(trx, tenantId, request.name)) throw nameTaken(request.name, namespace);
        await requireCapacity(trx, tenantId, id, spec, config.functions);
        const row = {
          tenant_id: tenantId,
          id,
          name: request.name,
          namespace,
          created_by: caller.apiKeyId ?? caller.userId ?? "",
          template: 1,
          status: "PENDING" as const,
          status_reason: pendingReason(config.functions),
          runtime: config.functions.runtime ?? "",
          ...wantedColumns(spec),
        };
        const found = await store.insertFunction(trx, row, template);
        await emitWebhookEvent(trx, tenantId, "function.created", functionEventData(found));
        await enterAudit(trx, tenantId, call, { resourceId: id });
        return found;
      }).catch((error: unknown) => {
        throw classifyDatabaseError(error)?.kind === "conflict" ? nameTaken(request.name) : error;
      });
      tell(bus, logger, functionsChannel, id);
      return { function: functionMessage(made) };
    },

    async getFunction({ name }, call) {
      const { tenantId } = callerOf(call);
      const found = await withTenant(db, tenantId, (trx) => store.findFunction(trx, tenantId, name));
      if (!found) throw notFound("function", name);
      return { function: functionMessage(found) };
    },

    async listFunctions({ statuses, namePrefix, pageSize, pageToken, skip }, call) {
      const { tenantId } = callerOf(call);
      const query = {
        statuses: statuses.map((status) => FunctionStatus[status] as FunctionState),
        namePrefix,
      };
      const identity = `functions ${tenantId} ${JSON.stringify(query)}`;
      const after = pageToken ? decodeCursor(pageToken, identity, ["text", "uuid"]) : undefined;
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        store.listFunctions(trx, tenantId, query, {
          limit: limit + 1,
          skip,
          after: after as [string, string] | undefined,
        }),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, ({ row }) => [row.name, row.id]);
      return { functions: page.map(functionMessage), nextPageToken };
    },

    async updateFunction(request, call) {
      const { tenantId } = callerOf(call);
      const paths = pathsOfUpdate(request);
      const changed = await withTenant(db, tenantId, async (trx) => {
        await lockTenant(trx, tenantId);
        const found = await takeFunction(trx, tenantId, request);
        const before = await readSpec(context, found);
        const spec = updatedSpec(before, request, paths);
        await requireCapacity(trx, tenantId, found.row.id, spec, config.functions);
        const isNew = !sameTemplate(before.template, spec.template);
        const number = found.row.template + (isNew ? 1 : 0);
        const template = isNew
          ? await store.insertTemplate(
              trx,
              await templateColumns(tenantId, found.row.id, number, spec.template),
            )
          : found.template;
        const row = await store.changeFunction(trx, found.row, { ...wantedColumns(spec), template: number });
        await emitWebhookEvent(trx, tenantId, "function.updated", functionEventData({ row, template }));
        await enterAudit(trx, tenantId, call, { resourceId: row.id });
        return { row, template };
      });
      tell(bus, logger, functionsChannel, changed.row.id);
      return { function: functionMessage(changed) };
    },

    async deleteFunction(request, call) {
      const { tenantId } = callerOf(call);
      const gone = await withTenant(db, tenantId, async (trx) => {
        const { row: found, template } = await takeFunction(trx, tenantId, request);
        const row = await store.changeFunction(trx, found, {
          deleted_at: new Date(),
          status: "DELETED",
          status_reason: "",
          available_replicas: 0,
        });
        await cancelUnfinished(trx, tenantId, row.id, "the function was deleted");
        await emitWebhookEvent(trx, tenantId, "function.deleted", functionEventData({ row, template }));
        await enterAudit(trx, tenantId, call, { resourceId: row.id });
        return { row, template };
      });
      tell(bus, logger, functionsChannel, gone.row.id);
      tell(bus, logger, invocationsChannel, "");
      tell(bus, logger, logChannel(gone.row.id), "");
      return { function: functionMessage(gone) };
    },
  };
}

function wantedColumns({ replicas, warmPoolSize, invocationTimeoutMs, retryPolicy }: Spec) {
  return {
    replicas,
    warm_pool_size: warmPoolSize,
    invocation_timeout_ms: BigInt(invocationTimeoutMs),
    retry_policy: JSON.stringify(retryPolicy),
  };
}

/** Finds a function for a change, locked, and holds it against the etag of who read it. Throws NOT_FOUND and ETAG_MISMATCH. */
async function takeFunction(
  trx: TenantTransaction,
  tenantId: string,
  { name, etag }: { name: string; etag: string },
): Promise<store.FunctionWithTemplate> {
  const found = await store.findFunction(trx, tenantId, name, { lock: true });
  if (!found) throw notFound("function", name);
  if (etag && etag !== etagOf(found.row.wanted_at)) {
    throw failure(
      ErrorReason.ETAG_MISMATCH,
      `the function '${name}' was changed since it was read; read it again`,
      {
        metadata: { resource: "function", id: name },
      },
    );
  }
  return found;
}

/** What is wanted of a function now, its secrets in clear. */
async function readSpec({ keyring }: Context, { row, template }: store.FunctionWithTemplate): Promise<Spec> {
  return {
    template: {
      image: template.image,
      command: template.command,
      invocationCommand: template.invocation_command,
      env: template.env,
      cpuMillicores: template.cpu_millicores,
      memoryBytes: template.memory_bytes,
      ...(await openSecrets(keyring, row.id, template.sealed_secrets)),
    },
    replicas: row.replicas,
    warmPoolSize: row.warm_pool_size,
    invocationTimeoutMs: Number(row.invocation_timeout_ms),
    retryPolicy: row.retry_policy,
  };
}

function sameTemplate(a: Template, b: Template): boolean {
  return canonical(a) === canonical(b);
}

function canonical({ env, secretEnv, registry, ...rest }: Template): string {
  const sorted = (variables: Record<string, string>) =>
    Object.entries(variables).sort(([one], [other]) => (one < other ? -1 : 1));
  const login = registry ? [registry.username, registry.password] : [];
  return JSON.stringify([
    rest.image,
    rest.command,
    rest.invocationCommand,
    rest.cpuMillicores,
    String(rest.memoryBytes),
    sorted(env),
    sorted(secretEnv),
    login,
  ]);
}

/** EventFlow's sentence. */
function nameTaken(name: string, namespace?: string) {
  const where = namespace ? ` in namespace '${namespace}'` : "";
  return failure(ErrorReason.ALREADY_EXISTS, `function '${name}' already exists${where}`, {
    metadata: { resource: "function", field: "name" },
  });
}
