import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import type { ContainerSpec } from "../runtime/runtime.ts";
import { openSecrets } from "../secrets.ts";
import { type FunctionRow, getTemplate } from "../store.ts";

/** What a function's containers of one template are made from, with the secrets in clear: for the runtime only. */
export async function containerSpec(
  { db, keyring }: Pick<Context, "db" | "keyring">,
  fn: Pick<FunctionRow, "tenant_id" | "id" | "name" | "namespace">,
  number: number,
): Promise<ContainerSpec> {
  const template = await withTenant(db, fn.tenant_id, (trx) => getTemplate(trx, fn.tenant_id, fn.id, number));
  const { secretEnv, registry } = await openSecrets(keyring, fn.id, template.sealed_secrets);
  return {
    tenantId: fn.tenant_id,
    functionId: fn.id,
    functionName: fn.name,
    namespace: fn.namespace,
    template: number,
    image: template.image,
    command: template.command,
    invocationCommand: template.invocation_command,
    env: { ...template.env, ...secretEnv },
    registry,
    cpuMillicores: template.cpu_millicores,
    memoryBytes: template.memory_bytes,
  };
}
