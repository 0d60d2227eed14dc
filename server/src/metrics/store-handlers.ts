import { isDeepStrictEqual } from "node:util";
import type { JsonObject } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { change } from "../auth/audit/details.ts";
import { pathsOf } from "../auth/field-mask.ts";
import { etagOf, newResourceId } from "../auth/ids.ts";
import { reachedTenant } from "../auth/platform.ts";
import { etagMismatch } from "../auth/tenants/handlers.ts";
import { requireRoom } from "../auth/tenants/room.ts";
import type { Context } from "../context.ts";
import { decodeCursor, pageOf } from "../db/cursor.ts";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { withTenant } from "../db/tenant.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { MetricsService } from "../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import type { UpdateStoreRequest } from "../gen/pulsewire/metrics/v1/store_pb.js";
import { enterAudit } from "../rpc/audit.ts";
import { callerOf } from "../rpc/caller.ts";
import { failure, invalidField, notFound } from "../rpc/errors.ts";
import { requireStoreAccess } from "./access.ts";
import { defaultExpectedIntervalMs, storeMessage } from "./messages.ts";
import { wordOfState } from "./status/states.ts";
import * as store from "./store.ts";

const defaultPageSize = 100;

type StoreCalls = "createStore" | "getStore" | "listStores" | "updateStore" | "deleteStore";

/** The calls about stores. */
export function storeHandlers({ config, db }: Context): Pick<ServiceImpl<typeof MetricsService>, StoreCalls> {
  return {
    async createStore({ name, description, expectedInterval, labels, tenantId: given }, call) {
      const tenantId = reachedTenant(callerOf(call), given);
      try {
        const row = await withTenant(db, tenantId, async (trx) => {
          await requireRoom(trx, tenantId, "stores", config.tenants.limits);
          const made = await store.insertStore(trx, {
            tenant_id: tenantId,
            id: newResourceId(),
            name,
            description,
            expected_interval_ms: BigInt(
              expectedInterval ? durationMs(expectedInterval) : defaultExpectedIntervalMs,
            ),
            labels: JSON.stringify(labels),
          });
          await enterAudit(trx, tenantId, call, { resourceId: made.id });
          return made;
        });
        return { store: storeMessage(row) };
      } catch (error) {
        throw nameTaken(error, name);
      }
    },

    async getStore({ storeId }, call) {
      const caller = callerOf(call);
      requireStoreAccess(caller, storeId);
      const row = await withTenant(db, caller.tenantId, (trx) =>
        store.getStore(trx, caller.tenantId, storeId),
      );
      if (!row) throw notFound("store", storeId);
      return { store: storeMessage(row) };
    },

    async listStores({ pageSize, pageToken, nameContains, state }, call) {
      const { tenantId, storeIds } = callerOf(call);
      const word = wordOfState(state);
      const identity = `stores ${tenantId} ${word ?? ""} ${nameContains}`;
      const [after] = pageToken ? decodeCursor(pageToken, identity, ["text"]) : [];
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        store.listStores(trx, tenantId, { nameContains, onlyIds: storeIds, state: word }, limit + 1, after),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.name]);
      return {
        stores: page.map(storeMessage),
        nextPageToken,
      };
    },

    async updateStore(request, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      const { storeId, etag } = request;
      requireStoreAccess(caller, storeId);
      const changes = storeChanges(request);
      try {
        const row = await withTenant(db, tenantId, async (trx) => {
          const before = await store.lockStore(trx, tenantId, storeId);
          if (!before) throw notFound("store", storeId);
          if (etag && etag !== etagOf(before.updated_at)) throw etagMismatch("store");
          const after = await store.updateStore(trx, tenantId, storeId, changes);
          await enterAudit(trx, tenantId, call, {
            resourceId: storeId,
            details: auditedChanges(before, after),
          });
          return after;
        });
        return { store: storeMessage(row) };
      } catch (error) {
        throw nameTaken(error, request.name);
      }
    },

    async deleteStore({ storeId }, call) {
      const caller = callerOf(call);
      const { tenantId } = caller;
      requireStoreAccess(caller, storeId);
      await withTenant(db, tenantId, async (trx) => {
        if (!(await store.lockStore(trx, tenantId, storeId))) throw notFound("store", storeId);
        await store.deleteStore(trx, tenantId, storeId);
        await enterAudit(trx, tenantId, call, { resourceId: storeId });
      });
      return {};
    },
  };
}

/** What an update is to change. Throws INVALID_FIELD. */
function storeChanges(request: UpdateStoreRequest): store.StoreChanges {
  const { name, description, expectedInterval, labels } = request;
  const paths = pathsOf(request.updateMask, ["name", "description", "expected_interval", "labels"]);
  if (paths.has("name") && !name) throw invalidField("name", "must be given when the mask names it");
  return {
    ...(paths.has("name") && { name }),
    ...(paths.has("description") && { description }),
    ...(paths.has("expected_interval") && {
      expected_interval_ms: BigInt(
        expectedInterval ? durationMs(expectedInterval) : defaultExpectedIntervalMs,
      ),
    }),
    ...(paths.has("labels") && { labels: JSON.stringify(labels) }),
  };
}

/** Old and new values of what has changed, for the audit log. */
function auditedChanges(before: store.StoreRow, after: store.StoreRow): JsonObject {
  const facts = ({ name, description, expected_interval_ms, labels }: store.StoreRow) => ({
    name,
    description,
    expected_interval_ms: Number(expected_interval_ms ?? defaultExpectedIntervalMs),
    labels,
  });
  const [old, now] = [facts(before), facts(after)];
  const changed = (Object.keys(old) as (keyof typeof old)[]).filter(
    (field) => !isDeepStrictEqual(old[field], now[field]),
  );
  return Object.fromEntries(changed.map((field) => [field, change(old[field], now[field])]));
}

/** What was thrown, or what to tell when it was that the name is taken. */
function nameTaken(error: unknown, name: string): unknown {
  if (classifyDatabaseError(error)?.kind !== "conflict") return error;
  return failure(ErrorReason.ALREADY_EXISTS, `there is a store named '${name}' already`, {
    metadata: { resource: "store", field: "name" },
  });
}
