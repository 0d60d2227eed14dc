/** Tells the ends of invocations where it was asked for: signed POSTs, tried again over days. */
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import { type Loop, startLoop } from "../../jobs/loop.ts";
import { type Answer, createPoster } from "../../net/post.ts";
import { nextAttemptMs, readRetryAfter } from "../../webhooks/schedule.ts";
import { signatureOf } from "../../webhooks/secret.ts";
import { callbackBody } from "../invocations/messages.ts";
import { getInvocation, type InvocationRow } from "../invocations/store.ts";
import type { Tenure } from "./tenure.ts";

const idleMs = 1_000;
/** Callbacks that are tried at the same time. */
const atOnce = 32;
const gone = 410;
const maxErrorLength = 500;

/** What the secret of an invocation's callback is sealed for. */
export function callbackPurpose(invocationId: string): string {
  return `invocation callback ${invocationId}`;
}

export function startCallbacks({ config, db, keyring, logger }: Context, tenure: Tenure): Loop {
  const { webhooks } = config;
  const poster = createPoster({ allowPrivate: webhooks.allowPrivate });

  const step = async (): Promise<"more" | "idle"> => {
    const rows = await due(tenure);
    await Promise.all(rows.map(send));
    return rows.length === atOnce ? "more" : "idle";
  };

  const send = async (row: InvocationRow) => {
    const details = await withTenant(db, row.tenant_id, (trx) => getInvocation(trx, row.tenant_id, row.id));
    if (!details || row.callback_url === null || row.sealed_callback_secret === null) return;
    const { text: secret } = await keyring.open(row.sealed_callback_secret, callbackPurpose(row.id));
    const body = callbackBody(details);
    const timestamp = Math.floor(Date.now() / 1_000);
    let answer: Answer | undefined;
    let error = "";
    try {
      answer = await poster.post(row.callback_url, {
        headers: {
          "content-type": "application/json",
          "user-agent": "pulsewire-webhooks/1",
          // Every attempt has the same id, by which the receiver knows it again.
          "webhook-id": row.id,
          "webhook-timestamp": String(timestamp),
          "webhook-signature": signatureOf([secret], row.id, timestamp, body),
        },
        body,
        timeoutMs: webhooks.timeoutMs,
        signal: tenure.signal,
      });
      error = `the receiver answered ${answer.status}`;
    } catch (thrown) {
      tenure.signal.throwIfAborted();
      error = (thrown as Error).message;
    }
    await write(row, answer, error);
  };

  const write = async (row: InvocationRow, answer: Answer | undefined, error: string) => {
    const delivered = answer !== undefined && answer.status >= 200 && answer.status < 300;
    const nowMs = Date.now();
    const nextMs =
      delivered || answer?.status === gone
        ? undefined
        : nextAttemptMs(webhooks, {
            createdMs: row.finished_at?.getTime() ?? nowMs,
            nowMs,
            attempts: row.callback_attempts + 1,
            retryAfterMs: readRetryAfter(answer?.headers["retry-after"], nowMs),
          });
    await tenure.writeIn(row.tenant_id, (trx) =>
      trx
        .updateTable("invocations")
        .set({
          callback_attempts: row.callback_attempts + 1,
          callback_error: delivered ? "" : error.slice(0, maxErrorLength),
          callback_due_at: nextMs === undefined ? null : new Date(nextMs),
          ...(delivered && { callback_status: "DELIVERED" as const, callback_delivered_at: new Date(nowMs) }),
          ...(!delivered && nextMs === undefined && { callback_status: "FAILED" as const }),
        })
        .where("tenant_id", "=", row.tenant_id)
        .where("id", "=", row.id)
        .execute(),
    );
  };

  const loop = startLoop({ name: "function callbacks", step, idleMs, logger });
  return {
    wake: () => loop.wake(),
    async close() {
      await loop.close();
      poster.close();
    },
  };
}

function due(tenure: Tenure): Promise<InvocationRow[]> {
  return tenure.write((trx) =>
    trx
      .selectFrom("invocations")
      .selectAll()
      .where("callback_due_at", "<=", new Date())
      .orderBy("callback_due_at")
      .limit(atOnce)
      .execute(),
  );
}
