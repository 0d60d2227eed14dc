/** EventFlow's `eventflow_functions_total`: functions by namespace and status, counted when it is asked for. */
import { type Kysely, sql } from "kysely";
import { Gauge, type Registry } from "prom-client";
import type { FunctionState } from "../db/schema/functions.ts";
import type { Database } from "../db/schema.ts";
import { withWorker } from "../db/tenant.ts";

export function registerFunctionMetrics(registry: Registry, db: Kysely<Database>): void {
  new Gauge({
    name: "eventflow_functions_total",
    help: "Total number of functions",
    labelNames: ["namespace", "status"],
    registers: [registry],
    async collect() {
      const rows = await withWorker(db, (trx) =>
        trx
          .selectFrom("functions")
          .select(["namespace", "status", sql<string>`count(*)`.as("count")])
          .where("deleted_at", "is", null)
          .groupBy(["namespace", "status"])
          .execute(),
      );
      this.reset();
      for (const { namespace, status, count } of rows) {
        this.set({ namespace, status: statusWord(status) }, Number(count));
      }
    },
  });
}

/** EventFlow's word for a status: `Running`. */
function statusWord(status: FunctionState): string {
  return status.charAt(0) + status.slice(1).toLowerCase();
}
