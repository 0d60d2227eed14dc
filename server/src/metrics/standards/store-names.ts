/** The stores of senders that know no ids of ours: they are known by name, and made when they are first heard from. */
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import type { Kysely } from "kysely";
import { LRUCache } from "lru-cache";
import type { AuditLog } from "../../auth/audit/log.ts";
import { newResourceId } from "../../auth/ids.ts";
import { requireRoom } from "../../auth/tenants/room.ts";
import type { Config } from "../../config/config.ts";
import type { Database } from "../../db/schema.ts";
import { classifyDatabaseError } from "../../db/sqlstate.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import {
  type CreateStoreRequest,
  CreateStoreRequestSchema,
} from "../../gen/pulsewire/metrics/v1/store_pb.js";
import { enterAuditAs } from "../../rpc/audit.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure, invalidField } from "../../rpc/errors.ts";
import { violationsOf } from "../../rpc/validate.ts";
import { defaultExpectedIntervalMs } from "../messages.ts";
import { findStoreByName, insertStore } from "../store.ts";

/** Names the store of a whole request, by its name or id. */
export const storeHeader = "x-pulsewire-store";

const maxNames = 20_000;
/** So long a name stands for the store that had it, though that may have been renamed. */
const rememberedMs = 30_000;
const uuid = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export interface StoreNames {
  /**
   * The id of the store that is called so. A UUID is taken for the id itself. Where there is no such store it is made, but not
   * for a key that is bound to stores; the audit log has it as a call of CreateStore. Throws INVALID_FIELD, KEY_RESTRICTED and
   * TENANT_LIMIT.
   */
  idOf(call: HandlerContext, name: string): Promise<string>;
  /** Forgets a name whose store is no more. */
  forget(tenantId: string, name: string): void;
}

export function createStoreNames(db: Kysely<Database>, config: Config, auditLog: AuditLog): StoreNames {
  const known = new LRUCache<string, string>({ max: maxNames, ttl: rememberedMs });
  const keyOf = (tenantId: string, name: string) => `${tenantId} ${name}`;

  const find = (tenantId: string, name: string) =>
    withTenant(db, tenantId, (trx) => findStoreByName(trx, tenantId, name));

  async function make(call: HandlerContext, request: CreateStoreRequest): Promise<string> {
    const { tenantId } = callerOf(call);
    const { name } = request;
    try {
      const made = await withTenant(db, tenantId, async (trx) => {
        await requireRoom(trx, tenantId, "stores", config.tenants.limits);
        const made = await insertStore(trx, {
          tenant_id: tenantId,
          id: newResourceId(),
          name,
          description: "",
          expected_interval_ms: BigInt(defaultExpectedIntervalMs),
          labels: "{}",
        });
        const { createStore } = MetricsService.method;
        await enterAuditAs(auditLog, trx, call, createStore, request, { resourceId: made.id });
        return made;
      });
      return made.id;
    } catch (error) {
      // Somebody else has just made it.
      const other =
        classifyDatabaseError(error)?.kind === "conflict" ? await find(tenantId, name) : undefined;
      if (!other) throw error;
      return other.id;
    }
  }

  return {
    async idOf(call, name) {
      if (uuid.test(name)) return name.toLowerCase();
      const { tenantId, storeIds } = callerOf(call);
      const request = create(CreateStoreRequestSchema, { name });
      const violations = violationsOf(CreateStoreRequestSchema, request);
      if (violations.length > 0) {
        const given = name === "" ? "the samples name no store" : "their store has no valid name";
        throw invalidField("store", `${given}; name it in the header ${storeHeader}`, "required");
      }
      const key = keyOf(tenantId, name);
      let id = known.get(key) ?? (await find(tenantId, name))?.id;
      if (id === undefined && storeIds.length > 0) {
        throw failure(
          ErrorReason.KEY_RESTRICTED,
          `this API key is bound to other stores than '${name}'; name one of them in ${storeHeader}`,
          { metadata: { restriction: "store" } },
        );
      }
      id ??= await make(call, request);
      known.set(key, id);
      return id;
    },
    forget: (tenantId, name) => void known.delete(keyOf(tenantId, name)),
  };
}
