import { create, type JsonObject } from "@bufbuild/protobuf";
import type { Updateable } from "kysely";
import { snakeCase, type TenantLimitName, tenantLimitNames } from "../../config/tenants.ts";
import type { TenantsTable } from "../../db/schema/auth.ts";
import {
  type TenantLimits,
  TenantLimitsSchema,
  TenantState,
  type UpdateTenantRequest,
} from "../../gen/pulsewire/auth/v1/tenant_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Caller } from "../../rpc/caller.ts";
import { failure, invalidField } from "../../rpc/errors.ts";
import { change } from "../audit/details.ts";
import { pathsOf } from "../field-mask.ts";
import { actsForPlatform } from "../platform.ts";
import { limitsToStore, storedLimits } from "./limits-in-force.ts";
import type { TenantRow } from "./store.ts";

/** Columns that can be changed. */
type Changes = Pick<Updateable<TenantsTable>, "name" | "contact_email" | "limits" | "state">;

const limitPaths = new Map<string, TenantLimitName>(
  tenantLimitNames.map((name) => [`limits.${snakeCase(name)}`, name]),
);

/**
 * What the request changes, checked as far as it can be without the tenant; the limits depend on those that are set.
 * Throws INVALID_FIELD, and MISSING_SCOPE where the caller may not change a field that the mask names.
 */
export function tenantChanges(request: UpdateTenantRequest, caller: Caller): (tenant: TenantRow) => Changes {
  const paths = pathsOf(request.updateMask, [
    "name",
    "contact_email",
    "limits",
    "state",
    ...limitPaths.keys(),
  ]);
  const limits = [...paths].filter((path) => path.startsWith("limits"));
  if ((limits.length > 0 || paths.has("state")) && !actsForPlatform(caller)) throw platformOnly();
  for (const [path, given] of [
    ["name", request.name],
    ["contact_email", request.contactEmail],
  ] as const) {
    if (paths.has(path) && !given) throw invalidField(path, "must not be empty when the mask names it");
  }
  if (paths.has("state") && request.state === TenantState.UNSPECIFIED) {
    throw invalidField("state", "must be ACTIVE or SUSPENDED when the mask names it");
  }
  return (tenant) => ({
    ...(paths.has("name") && { name: request.name }),
    ...(paths.has("contact_email") && { contact_email: request.contactEmail }),
    ...(paths.has("state") && { state: request.state === TenantState.SUSPENDED ? "SUSPENDED" : "ACTIVE" }),
    ...(limits.length > 0 && {
      limits: JSON.stringify(limitsToStore(mergedLimits(storedLimits(tenant), request.limits, limits))),
    }),
  });
}

/** All limits anew, or those alone that the mask names; one that is named and not set falls back to the default. */
function mergedLimits(
  set: TenantLimits,
  given: TenantLimits | undefined,
  paths: readonly string[],
): TenantLimits {
  const wanted = given ?? create(TenantLimitsSchema);
  if (paths.includes("limits")) return wanted;
  const merged = create(TenantLimitsSchema, set);
  for (const path of paths) {
    const name = limitPaths.get(path);
    if (!name) continue;
    const value = wanted[name];
    if (value === undefined) delete merged[name];
    else merged[name] = value;
  }
  return merged;
}

function platformOnly() {
  return failure(
    ErrorReason.MISSING_SCOPE,
    "limits and state of a tenant are changed by platform admins only; leave them out of update_mask",
    { metadata: { method: "pulsewire.auth.v1.AuthService/UpdateTenant", scopes: "PLATFORM_ADMIN" } },
  );
}

/** Nobody could open it again who is left in it. */
export function refuseOwnSuspension(caller: Caller, tenantId: string, { state }: Changes): void {
  if (state !== "SUSPENDED" || caller.tenantId !== tenantId) return;
  throw failure(
    ErrorReason.FAILED_PRECONDITION,
    "state: a platform admin cannot suspend the tenant they belong to; let one of another tenant do it",
    { metadata: { resource: "tenant" } },
  );
}

/** Old and new values of what has changed, for the audit log. */
export function auditedChanges(before: TenantRow, after: TenantRow): JsonObject {
  const fields = ["name", "contact_email", "state", "limits"] as const;
  const changed = fields.filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field]));
  return Object.fromEntries(changed.map((field) => [field, change(before[field], after[field])]));
}
