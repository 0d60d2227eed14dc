import { create, fromJson, type JsonObject, toJson } from "@bufbuild/protobuf";
import { type TenantLimitDefaults, type TenantLimitName, tenantLimitNames } from "../../config/tenants.ts";
import { type TenantLimits, TenantLimitsSchema } from "../../gen/pulsewire/auth/v1/tenant_pb.js";
import type { TenantRow } from "./store.ts";

/** The limits as they were set for the tenant. */
export function storedLimits(row: Pick<TenantRow, "limits">): TenantLimits {
  return fromJson(TenantLimitsSchema, row.limits, { ignoreUnknownFields: true });
}

/** How limits are stored: ProtoJSON. */
export function limitsToStore(limits: TenantLimits): JsonObject {
  return toJson(TenantLimitsSchema, limits) as JsonObject;
}

/** The limits that count: those of the tenant, the server's defaults where none is set. 0: without limit. */
export function limitsInForce(
  row: Pick<TenantRow, "limits">,
  defaults: TenantLimitDefaults,
): TenantLimitDefaults {
  const set = storedLimits(row);
  return Object.fromEntries(tenantLimitNames.map((name) => [name, set[name] ?? defaults[name]])) as Record<
    TenantLimitName,
    bigint
  >;
}

/** The limits in force as a message. */
export function limitsMessage(limits: TenantLimitDefaults): TenantLimits {
  return create(TenantLimitsSchema, limits);
}
