import { randomUUIDv7 } from "node:crypto";
import { isIP } from "node:net";
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  AuditActorSchema,
  AuditActorType,
  type AuditEntry,
  AuditEntrySchema,
  AuditOutcome,
} from "../../gen/pulsewire/auth/v1/audit_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { text } from "./details.ts";
import type { AuditEntryRow } from "./store.ts";

/** Who acted. */
export interface Actor {
  readonly type: AuditActorType;
  readonly userId?: string | undefined;
  readonly email?: string | undefined;
  readonly apiKeyId?: string | undefined;
  readonly apiKeyName?: string | undefined;
  readonly identityProviderId?: string | undefined;
  readonly sessionId?: string | undefined;
  /** Acted from outside the tenant. */
  readonly platformAdmin?: boolean | undefined;
}

/** What is to be entered. */
export interface NewEntry {
  readonly actor: Actor;
  readonly address: string;
  readonly userAgent: string;
  readonly method: string;
  readonly resourceType: string;
  readonly resourceId: string;
  readonly outcome: AuditOutcome;
  readonly errorReason: ErrorReason;
  readonly callId: string;
  readonly traceId: string;
  readonly details: JsonObject;
}

const maxUserAgent = 500;
const maxText = 254;

/** The columns of a new entry, but for those of the chain. Texts of the caller's own are cut and made storable. */
export function entryColumns(tenantId: string, { actor, ...facts }: NewEntry) {
  return {
    tenant_id: tenantId,
    id: randomUUIDv7(),
    occurred_us: nowMicros(),
    actor_type: AuditActorType[actor.type],
    user_id: actor.userId ?? null,
    email: text(actor.email ?? "", maxText),
    api_key_id: actor.apiKeyId ?? null,
    api_key_name: text(actor.apiKeyName ?? "", maxText),
    identity_provider_id: actor.identityProviderId ?? null,
    session_id: actor.sessionId ?? null,
    platform_admin: actor.platformAdmin ?? false,
    // Zones of link-local addresses are a matter of this machine, and no address to PostgreSQL.
    address: isIP(facts.address) ? facts.address.replace(/%.*$/, "") : "",
    user_agent: text(facts.userAgent, maxUserAgent),
    method: facts.method,
    resource_type: facts.resourceType,
    resource_id: text(facts.resourceId),
    outcome: AuditOutcome[facts.outcome],
    error_reason: facts.errorReason === ErrorReason.UNSPECIFIED ? "" : ErrorReason[facts.errorReason],
    call_id: text(facts.callId),
    trace_id: facts.traceId,
    details: facts.details,
  };
}

/** An entry as it was written. Every column stands in it: that is what the hash is made of. */
export function entryMessage(row: AuditEntryRow): AuditEntry {
  return create(AuditEntrySchema, {
    sequence: row.sequence,
    id: row.id,
    tenantId: row.tenant_id,
    occurredAt: {
      ...timestampFromMs(Number(row.occurred_us / 1_000n)),
      nanos: Number(row.occurred_us % 1_000_000n) * 1_000,
    },
    actor: create(AuditActorSchema, {
      type: AuditActorType[row.actor_type as keyof typeof AuditActorType],
      userId: row.user_id ?? "",
      email: row.email,
      apiKeyId: row.api_key_id ?? "",
      apiKeyName: row.api_key_name,
      identityProviderId: row.identity_provider_id ?? "",
      sessionId: row.session_id ?? "",
      platformAdmin: row.platform_admin,
    }),
    address: row.address,
    userAgent: row.user_agent,
    method: row.method,
    resourceType: row.resource_type,
    resourceId: row.resource_id,
    outcome: AuditOutcome[row.outcome as keyof typeof AuditOutcome],
    errorReason: row.error_reason
      ? ErrorReason[row.error_reason as keyof typeof ErrorReason]
      : ErrorReason.UNSPECIFIED,
    callId: row.call_id,
    traceId: row.trace_id,
    // Whoever tampered may have left anything; it has to be seen, and its hash found wrong.
    details: isObject(row.details) ? row.details : { unreadable: true },
    previousHash: row.previous_hash,
    hash: row.hash,
  });
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function nowMicros(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1_000));
}
