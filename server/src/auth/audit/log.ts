/** Makes the entries of the audit log out of calls. */
import type { DescMethod, JsonObject } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import type { Database } from "../../db/schema.ts";
import { type TenantTransaction, withLookup, withTenant } from "../../db/tenant.ts";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { AuditActorType, AuditOutcome } from "../../gen/pulsewire/auth/v1/audit_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { findTenantBySlug } from "../tenants/store.ts";
import { bounded } from "./details.ts";
import type { Actor } from "./messages.ts";
import { appendEntry } from "./store.ts";

/** What is known of a call before its outcome. */
export interface AuditedCall {
  readonly method: DescMethod;
  readonly actor: Actor;
  readonly address: string;
  readonly userAgent: string;
  readonly callId: string;
  readonly traceId: string;
  readonly resourceType: string;
  readonly details: JsonObject;
}

/** What a handler, a request or an answer adds. What is left out stays as the call has it. */
export interface AuditFacts {
  readonly tenantId?: string | undefined;
  /** The tenant, where its id is not known. */
  readonly tenantSlug?: string | undefined;
  readonly resourceType?: string | undefined;
  readonly resourceId?: string | undefined;
  /** The person of a sign-in. */
  readonly user?: { readonly id: string; readonly email: string } | undefined;
  readonly sessionId?: string | undefined;
  /** Fields with old and new values, besides or instead of those of the request. */
  readonly details?: JsonObject | undefined;
}

export interface AuditLog {
  /** The caller as an actor, by name. */
  actorOf(caller: Caller | undefined): Promise<Actor>;
  /** Enters a success in the transaction that does it. */
  enter(trx: TenantTransaction, tenantId: string, call: AuditedCall, facts: AuditFacts): Promise<void>;
  /** Enters the outcome in a transaction of its own; nothing where the call is about no tenant that is known. */
  conclude(call: AuditedCall, facts: AuditFacts, error?: ConnectError): Promise<void>;
  /** The same without waiting, so that the time of an answer tells nothing of the tenant. Never throws. */
  concludeLater(call: AuditedCall, facts: AuditFacts, error: ConnectError): Promise<void>;
  /** Whether this refusal is to be entered: the first in a minute of this sort for this caller or address. */
  isNews(sort: readonly unknown[], error: ConnectError): boolean;
  /** Waits for what is still to be entered. */
  close(): Promise<void>;
}

/** For how long a refusal that repeats itself is not entered again, and of how many that is remembered. */
const refusalRepeatMs = 60_000;
const maxRefusals = 10_000;
/** Failed sign-ins that may be under way; beyond, answers wait for their entries. */
const maxPending = 1_000;

export function createAuditLog(db: Kysely<Database>, logger: Logger): AuditLog {
  const entered = new LRUCache<string, true>({ max: maxRefusals, ttl: refusalRepeatMs });
  const pending = new Set<Promise<void>>();

  const write = async (
    trx: TenantTransaction,
    tenantId: string,
    call: AuditedCall,
    facts: AuditFacts,
    error?: ConnectError,
  ) => {
    const { user, sessionId } = facts;
    const known = user && call.actor.type === AuditActorType.ANONYMOUS;
    const signedIn = known && !error ? { type: AuditActorType.USER } : {};
    await appendEntry(trx, tenantId, {
      ...call,
      actor: {
        ...call.actor,
        ...(known && { userId: user.id, email: user.email }),
        ...signedIn,
        ...(sessionId && { sessionId }),
      },
      method: `${call.method.parent.typeName}/${call.method.name}`,
      resourceType: facts.resourceType ?? call.resourceType,
      resourceId: facts.resourceId ?? "",
      outcome: error ? outcomeOf(error) : AuditOutcome.SUCCEEDED,
      errorReason: error ? reasonOf(error) : ErrorReason.UNSPECIFIED,
      details: bounded({ ...call.details, ...facts.details }),
    });
  };

  const conclude: AuditLog["conclude"] = async (call, facts, error) => {
    const { tenantSlug } = facts;
    const find = async (slug: string) =>
      (await withLookup(db, { tenantSlug: slug }, (trx) => findTenantBySlug(trx, slug)))?.id;
    const tenantId = facts.tenantId ?? (tenantSlug ? await find(tenantSlug) : undefined);
    if (tenantId === undefined) return;
    await withTenant(db, tenantId, (trx) => write(trx, tenantId, call, facts, error));
  };

  return {
    enter: (trx, tenantId, call, facts) => write(trx, tenantId, call, facts),
    conclude,

    async concludeLater(call, facts, error) {
      const entry = conclude(call, facts, error)
        .catch((err: unknown) => {
          const { method, callId } = call;
          logger.error({ err, method: method.name, requestId: callId }, "no audit entry could be made");
        })
        .finally(() => pending.delete(entry));
      pending.add(entry);
      if (pending.size > maxPending) await entry;
    },

    isNews(sort, error) {
      const key = JSON.stringify([...sort, reasonOf(error)]);
      if (entered.has(key)) return false;
      entered.set(key, true);
      return true;
    },

    async actorOf(caller) {
      if (!caller || caller.kind === "anonymous") return { type: AuditActorType.ANONYMOUS };
      const { tenantId, userId, apiKeyId, sessionId, identityProviderId } = caller;
      const name = caller.name ?? (await nameOf(db, tenantId, apiKeyId, userId));
      if (apiKeyId) return { type: AuditActorType.API_KEY, apiKeyId, apiKeyName: name };
      const type = identityProviderId ? AuditActorType.EXTERNAL_USER : AuditActorType.USER;
      return { type, userId, email: name, sessionId, identityProviderId };
    },

    async close() {
      while (pending.size > 0) await Promise.all(pending);
    },
  };
}

/** Refused for want of credentials or rights, or failed for another reason. */
function outcomeOf(error: ConnectError): AuditOutcome {
  return isDenial(error) ? AuditOutcome.DENIED : AuditOutcome.FAILED;
}

/** Whether a call was refused for want of credentials or rights. */
export function isDenial({ code }: ConnectError): boolean {
  return code === Code.PermissionDenied || code === Code.Unauthenticated;
}

function reasonOf(error: ConnectError): ErrorReason {
  const [info] = error.findDetails(ErrorInfoSchema);
  return ErrorReason[info?.reason as keyof typeof ErrorReason] ?? ErrorReason.UNSPECIFIED;
}

async function nameOf(
  db: Kysely<Database>,
  tenantId: string,
  apiKeyId: string | undefined,
  userId: string | undefined,
): Promise<string> {
  const row = await withTenant(db, tenantId, (trx) =>
    apiKeyId
      ? trx
          .selectFrom("api_keys")
          .select("name")
          .where("tenant_id", "=", tenantId)
          .where("id", "=", apiKeyId)
          .executeTakeFirst()
      : trx
          .selectFrom("users")
          .select("email as name")
          .where("tenant_id", "=", tenantId)
          .where("id", "=", userId ?? null)
          .executeTakeFirst(),
  );
  return row?.name ?? "";
}
