import type { FunctionsConfig } from "../config/functions.ts";
import type { TenantTransaction } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import type { Spec } from "./spec.ts";
import { usedCapacity } from "./store.ts";

/**
 * Makes sure that the tenant may use what is wanted of this function besides its others. The tenant must be locked, so
 * that the count stays true. Throws TENANT_LIMIT.
 */
export async function requireCapacity(
  trx: TenantTransaction,
  tenantId: string,
  functionId: string,
  { replicas, warmPoolSize, template }: Spec,
  { replicasPerTenant, cpuPerTenant, memoryPerTenant }: FunctionsConfig,
): Promise<void> {
  const used = await usedCapacity(trx, tenantId, functionId);
  const n = BigInt(replicas + warmPoolSize);
  const kinds: readonly [name: string, limit: number, wanted: bigint, unit: string][] = [
    ["function_replicas", replicasPerTenant, used.replicas + n, "replicas"],
    ["function_cpu", cpuPerTenant, used.cpu + n * BigInt(template.cpuMillicores), "thousandths of a core"],
    ["function_memory", memoryPerTenant, used.memory + n * template.memoryBytes, "bytes of memory"],
  ];
  for (const [limit, most, wanted, unit] of kinds) {
    if (most === 0 || wanted <= BigInt(most)) continue;
    throw failure(
      ErrorReason.TENANT_LIMIT,
      `the functions of the tenant may use ${most} ${unit} together, and would use ${wanted}; ` +
        "ask for less, or remove another function",
      { metadata: { limit } },
    );
  }
}
