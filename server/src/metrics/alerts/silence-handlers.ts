import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { sql } from "kysely";
import { newResourceId } from "../../auth/ids.ts";
import type { Context } from "../../context.ts";
import { decodeCursor, pageOf } from "../../db/cursor.ts";
import { withTenant } from "../../db/tenant.ts";
import { type Silence, SilenceSchema, type SilenceSpec } from "../../gen/pulsewire/metrics/v1/alert_pb.js";
import type { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { enterAudit } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { invalidField, notFound } from "../../rpc/errors.ts";
import { requireStoreAccess } from "../access.ts";
import { existingStores } from "../store.ts";
import { alertsChannel, evaluationChannel, lockEvaluation, noteRevision } from "./changes.ts";
import { requireRoomFor } from "./room.ts";
import { getRule } from "./rule-store.ts";
import type { SilenceRow } from "./silences.ts";

const defaultPageSize = 100;
const maxLengthMs = 90 * 86_400_000;

/** Silences: made, listed and ended. */
export function silenceHandlers({ bus, config, db }: Context): Partial<ServiceImpl<typeof MetricsService>> {
  const tell = async (tenantId: string) => {
    await bus.publish(evaluationChannel, tenantId);
    await bus.publish(alertsChannel(tenantId), "");
  };
  return {
    async createSilence({ spec: given }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      const { storeId, ruleId, labels, reason, ...times } = given as SilenceSpec;
      requireStoreAccess(caller, storeId);
      const { startsAt, endsAt } = readTimes(times, new Date());
      const row = await withTenant(db, tenantId, async (trx) => {
        await lockEvaluation(trx, tenantId);
        await requireRoomFor(trx, tenantId, "silences", config.metrics.alerts.maxSilences);
        if (storeId && !(await existingStores(trx, tenantId, [storeId])).has(storeId.toLowerCase()))
          throw notFound("store", storeId);
        if (ruleId && !(await getRule(trx, tenantId, ruleId))) throw notFound("alert rule", ruleId);
        const made = await trx
          .insertInto("silences")
          .values({
            tenant_id: tenantId,
            id: newResourceId(),
            store_id: storeId || null,
            rule_id: ruleId || null,
            labels: JSON.stringify(labels),
            starts_at: startsAt,
            ends_at: endsAt,
            reason,
            created_by: caller.userId ?? caller.apiKeyId ?? "",
          })
          .returningAll()
          .executeTakeFirstOrThrow();
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, context, { resourceId: made.id });
        return made;
      });
      await tell(tenantId);
      return { silence: silenceMessage(row) };
    },

    async listSilences({ pageSize, pageToken, includeExpired }, context) {
      const { tenantId, storeIds } = callerOf(context);
      const identity = `silences ${tenantId} ${includeExpired}`;
      const [endsAt, id] = pageToken ? decodeCursor(pageToken, identity, ["integer", "uuid"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) => {
        let select = trx
          .selectFrom("silences")
          .selectAll()
          .where("tenant_id", "=", tenantId)
          .orderBy("ends_at", "desc")
          .orderBy("id", "desc")
          .limit(limit + 1);
        if (!includeExpired) select = select.where("ends_at", ">", sql<Date>`now()`);
        if (storeIds.length > 0)
          select = select.where((or) => or.or([or("store_id", "is", null), or("store_id", "in", storeIds)]));
        if (endsAt !== undefined && id !== undefined)
          select = select.where(sql<boolean>`(ends_at, id) < (${new Date(Number(endsAt))}, ${id}::uuid)`);
        return select.execute();
      });
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [
        String(row.ends_at.getTime()),
        row.id,
      ]);
      return { silences: page.map(silenceMessage), nextPageToken };
    },

    async deleteSilence({ silenceId }, context) {
      const caller = callerOf(context);
      const { tenantId } = caller;
      await withTenant(db, tenantId, async (trx) => {
        await lockEvaluation(trx, tenantId);
        const row = await trx
          .deleteFrom("silences")
          .where("tenant_id", "=", tenantId)
          .where("id", "=", silenceId)
          .returningAll()
          .executeTakeFirst();
        if (!row) throw notFound("silence", silenceId);
        requireStoreAccess(caller, row.store_id ?? "");
        await noteRevision(trx, tenantId);
        await enterAudit(trx, tenantId, context, { resourceId: silenceId });
      });
      await tell(tenantId);
      return {};
    },
  };
}

/** Whole milliseconds, so that a page can begin at one. */
function readTimes({ startsAt, endsAt }: Pick<SilenceSpec, "startsAt" | "endsAt">, now: Date) {
  const starts = startsAt ? timestampDate(startsAt) : now;
  const ends = endsAt ? timestampDate(endsAt) : now;
  if (ends <= starts || ends <= now)
    throw invalidField("spec.ends_at", "must lie after starts_at and in the future", "timestamp.range");
  if (ends.getTime() - starts.getTime() > maxLengthMs)
    throw invalidField("spec.ends_at", "must be at most 90 days after starts_at", "timestamp.range");
  return { startsAt: starts, endsAt: ends };
}

function silenceMessage(row: SilenceRow): Silence {
  return create(SilenceSchema, {
    id: row.id,
    spec: {
      storeId: row.store_id ?? "",
      ruleId: row.rule_id ?? "",
      labels: row.labels,
      startsAt: timestampFromDate(row.starts_at),
      endsAt: timestampFromDate(row.ends_at),
      reason: row.reason,
    },
    createdBy: row.created_by,
    createdAt: timestampFromDate(row.created_at),
  });
}
