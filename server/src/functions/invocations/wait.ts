import { setTimeout as sleep } from "node:timers/promises";
import type { HandlerContext } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { withTenant } from "../../db/tenant.ts";
import { invocationChannel } from "../channels.ts";
import { getInvocation, type InvocationDetails, isFinal, phaseOf } from "./store.ts";

/** How often it is looked without a message: messages may be lost. */
const pollMs = 2_000;
/** What is left of the call's own deadline to send the answer. */
const answerMs = 200;

/**
 * Waits until an invocation has ended or the time is over, and answers it as it is then; undefined where there is none.
 * Rejects with the server's reason when it shuts down meanwhile.
 */
export async function untilFinal(
  { db, bus, shutdown }: Context,
  tenantId: string,
  id: string,
  waitMs: number,
  call: Pick<HandlerContext, "signal" | "timeoutMs">,
): Promise<InvocationDetails | undefined> {
  const left = call.timeoutMs();
  const allowedMs = left === undefined ? waitMs : Math.min(waitMs, Math.max(0, left - answerMs));
  const until = performance.now() + allowedMs;
  let news = true;
  let pause = new AbortController();
  const wake = () => {
    news = true;
    pause.abort();
  };
  const unsubscribe = bus.subscribe(invocationChannel(id), wake);
  const unsubscribeGap = bus.onGap(wake);
  const stops = [call.signal, shutdown.signal];
  for (const signal of stops) signal.addEventListener("abort", wake);
  try {
    for (;;) {
      news = false;
      const phase = await withTenant(db, tenantId, (trx) => phaseOf(trx, tenantId, id));
      const remainingMs = until - performance.now();
      if (phase === undefined || isFinal(phase) || remainingMs <= 0) break;
      for (const signal of stops) signal.throwIfAborted();
      if (news) continue;
      pause = new AbortController();
      // An aborted pause is a wake-up.
      await sleep(Math.min(remainingMs, pollMs), undefined, { signal: pause.signal, ref: false }).catch(
        () => {},
      );
    }
  } finally {
    unsubscribe();
    unsubscribeGap();
    for (const signal of stops) signal.removeEventListener("abort", wake);
  }
  return withTenant(db, tenantId, (trx) => getInvocation(trx, tenantId, id));
}
