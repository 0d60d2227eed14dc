/** Removes what retention no longer keeps: log lines by age and size, invocations and deleted functions by age. */
import { sql } from "kysely";
import type { Context } from "../../context.ts";
import { type Loop, startLoop } from "../../jobs/loop.ts";
import { trimLog } from "../logs/store.ts";
import type { Tenure } from "./tenure.ts";

const sweepMs = 60_000;
/** Invocations that are removed in one transaction. */
const atOnce = 1_000;

export function startSweep({ config, logger }: Context, tenure: Tenure): Loop {
  const { logRetentionMs, logBytes, retentionMs } = config.functions;

  const step = async (): Promise<"idle"> => {
    const logs = await tenure.write((trx) =>
      trx.selectFrom("function_logs").select(["tenant_id", "function_id"]).where("bytes", ">", 0n).execute(),
    );
    for (const { tenant_id, function_id } of logs) {
      await tenure.writeIn(tenant_id, (trx) =>
        trimLog(trx, tenant_id, function_id, { maxAgeMs: logRetentionMs, maxBytes: logBytes }),
      );
    }
    await removeOld();
    return "idle";
  };

  const removeOld = async () => {
    const cutOff = new Date(Date.now() - retentionMs);
    for (;;) {
      const removed = await tenure.write(async (trx) => {
        const { rows } = await sql`
          delete from invocations where ctid in (
            select ctid from invocations
            where finished_at < ${cutOff} and due_at is null and callback_due_at is null limit ${atOnce}
          ) returning id`.execute(trx);
        return rows.length;
      });
      if (removed < atOnce) break;
    }
    await tenure.write((trx) =>
      trx.deleteFrom("functions").where("deleted_at", "<", cutOff).where("due_at", "is", null).execute(),
    );
  };

  return startLoop({ name: "functions sweep", step, idleMs: sweepMs, logger });
}
