import { toJsonString } from "@bufbuild/protobuf";
import type { TenantTransaction } from "../db/tenant.ts";
import { type WebhookFilter, WebhookFilterSchema } from "../gen/pulsewire/webhooks/v1/webhook_pb.js";
import { existingRules } from "../metrics/alerts/rule-store.ts";
import { existingStores } from "../metrics/store.ts";
import { notFound } from "../rpc/errors.ts";

/** A filter as it is stored, in ProtoJSON with ids in the form that events have. */
export function storedFilter(filter: WebhookFilter | undefined): string {
  if (!filter) return "{}";
  const lower = (ids: readonly string[]) => ids.map((id) => id.toLowerCase());
  const { storeIds, alertRuleIds } = filter;
  return toJsonString(WebhookFilterSchema, {
    ...filter,
    storeIds: lower(storeIds),
    alertRuleIds: lower(alertRuleIds),
  });
}

/** Makes sure that a filter names what is the tenant's own. Throws NOT_FOUND. */
export async function requireOwn(
  trx: TenantTransaction,
  { id, slug }: { readonly id: string; readonly slug: string },
  filter: WebhookFilter | undefined,
): Promise<void> {
  if (!filter) return;
  const stores = await existingStores(trx, id, filter.storeIds);
  const strange = filter.storeIds.find((storeId) => !stores.has(storeId.toLowerCase()));
  if (strange !== undefined) throw notFound("store", strange);
  const rules = await existingRules(trx, id, filter.alertRuleIds);
  const unknown = filter.alertRuleIds.find((ruleId) => !rules.has(ruleId.toLowerCase()));
  if (unknown !== undefined) throw notFound("alert rule", unknown);
  const foreign = filter.clientKrns.find((krn) => !krn.startsWith(`krn:${slug}:`));
  if (foreign !== undefined) throw notFound("client", foreign);
}
