import type { ServiceImpl } from "@connectrpc/connect";
import { etagOf, newResourceId } from "../../auth/ids.ts";
import { etagMismatch } from "../../auth/tenants/handlers.ts";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { type AlertRuleSpec, AlertRuleSpecSchema } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure, notFound } from "../../rpc/errors.ts";
import { invalidRequest, violationsOf } from "../../rpc/validate.ts";
import { discardForRule } from "../../webhooks/delivery-store.ts";
import { requireStoreAccess } from "../access.ts";
import { backtest } from "./backtest.ts";
import { alertsChannel, evaluationChannel, lockEvaluation, noteRevision } from "./changes.ts";
import { requireRoomFor } from "./room.ts";
import { checkRule } from "./rule.ts";
import { closeAlerts, merged, requireNamed } from "./rule-changes.ts";
import { deleteRule, getRule, insertRule, listRules, ruleMessage, specOf, updateRule } from "./rule-store.ts";

const defaultPageSize = 100;

/** Alert rules: made, shown, changed, deleted and tried on the past. */
export function alertRuleHandlers({ bus, config, db }: Context): Partial<ServiceImpl<typeof MetricsService>> {
  const tell = async (tenantId: string) => {
    await bus.publish(evaluationChannel, tenantId);
    await bus.publish(alertsChannel(tenantId), "");
  };
  return {
    async createAlertRule({ spec: given }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      const spec = given as AlertRuleSpec;
      requireStoreAccess(caller, spec.storeId);
      checkRule(spec);
      const row = await withTenant(db, tenantId, async (trx) => {
        await lockEvaluation(trx, tenantId);
        await requireRoomFor(trx, tenantId, "alert_rules", config.metrics.alerts.maxRules);
        await requireNamed(trx, tenantId, spec);
        const made = await insertRule(trx, tenantId, newResourceId(), spec);
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, context, { resourceId: made.id });
        return made;
      }).catch(nameTaken(spec.name));
      await tell(tenantId);
      return { rule: ruleMessage(row) };
    },

    async getAlertRule({ ruleId }, context) {
      const caller = callerOf(context);
      const row = await withTenant(db, caller.tenantId, (trx) => getRule(trx, caller.tenantId, ruleId));
      if (!row) throw notFound("alert rule", ruleId);
      if (row.store_id) requireStoreAccess(caller, row.store_id);
      return { rule: ruleMessage(row) };
    },

    async listAlertRules({ pageSize, pageToken, storeId }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      if (storeId) requireStoreAccess(caller, storeId);
      const storeIds = storeId ? [storeId] : caller.storeIds;
      const identity = `alert rules ${tenantId} ${storeId}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        listRules(trx, tenantId, storeIds, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.name]);
      return { rules: page.map(ruleMessage), nextPageToken };
    },

    async updateAlertRule({ ruleId, spec: given, updateMask, etag }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      let name = "";
      const row = await withTenant(db, tenantId, async (trx) => {
        const locked = await lockEvaluation(trx, tenantId);
        const current = await getRule(trx, tenantId, ruleId);
        if (!current) throw notFound("alert rule", ruleId);
        requireStoreAccess(caller, current.store_id ?? "");
        if (etag && etag !== etagOf(current.updated_at)) throw etagMismatch("alert rule");
        const before = specOf(current);
        const spec = merged(before, given as AlertRuleSpec, updateMask?.paths);
        name = spec.name;
        requireValid(spec);
        requireStoreAccess(caller, spec.storeId);
        await requireNamed(trx, tenantId, spec);
        await closeAlerts(trx, tenantId, locked, ruleId, before, spec, new Date());
        const changed = await updateRule(trx, tenantId, ruleId, spec);
        const targets = { before: before.targets, after: spec.targets };
        await discardForRule(trx, tenantId, changed.id, targets, new Date());
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, context, { resourceId: ruleId });
        return changed;
      }).catch((error: unknown) => nameTaken(name)(error));
      await tell(tenantId);
      return { rule: ruleMessage(row) };
    },

    async deleteAlertRule({ ruleId }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      await withTenant(db, tenantId, async (trx) => {
        const locked = await lockEvaluation(trx, tenantId);
        const row = await getRule(trx, tenantId, ruleId);
        if (!row) throw notFound("alert rule", ruleId);
        requireStoreAccess(caller, row.store_id ?? "");
        await closeAlerts(trx, tenantId, locked, ruleId, specOf(row), undefined, new Date());
        await deleteRule(trx, tenantId, ruleId);
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, context, { resourceId: ruleId });
      });
      await tell(tenantId);
      return {};
    },

    async backtestAlertRule(request, context) {
      const caller = callerOf(context);
      const spec = request.spec as AlertRuleSpec;
      requireStoreAccess(caller, spec.storeId);
      checkRule(spec);
      return await backtest(db, caller.tenantId, spec, request, config.metrics.alerts, context.signal);
    },
  };
}

/** A rule put together from two is checked as one that was sent. */
function requireValid(spec: AlertRuleSpec): void {
  const violations = violationsOf(AlertRuleSpecSchema, spec);
  if (violations.length > 0)
    throw invalidRequest(violations.map((one) => ({ ...one, field: `spec.${one.field}` })));
  checkRule(spec);
}

function nameTaken(name: string): (error: unknown) => never {
  return (error) => {
    if (classifyDatabaseError(error)?.kind !== "conflict") throw error;
    throw failure(ErrorReason.ALREADY_EXISTS, `there is an alert rule named '${name}' already`, {
      metadata: { resource: "alert rule", field: "name" },
    });
  };
}
