import { Code } from "./code.ts";
import type { PulsewireError } from "./errors.ts";

/** How long to wait between attempts. */
export interface RetryPolicy {
  /** Upper bound of the wait after the first failure, in milliseconds; doubled with each further one. Default 100. */
  initialDelayMs: number;
  /** Upper bound of any wait that the server did not ask for, in milliseconds. Default 5,000. */
  maxDelayMs: number;
  /** Times that one batch is sent before it is dropped. Default: no limit, the queue's bounds decide. */
  maxAttempts: number;
}

/** The policy where none is given. */
export const defaultRetryPolicy: RetryPolicy = {
  initialDelayMs: 100,
  maxDelayMs: 5_000,
  maxAttempts: Number.POSITIVE_INFINITY,
};

/** The longest wait that a timer can hold: about 24.8 days. */
const maxTimerMs = 0x7fffffff;

/**
 * Decides whether the same call may be made again after this error.
 *
 * Listed codes only: UNAVAILABLE; ABORTED, except for a stale etag, which no repetition makes right;
 * RESOURCE_EXHAUSTED where waiting helps, which is where the server named a delay or the reason is a rate or
 * overload; and DEADLINE_EXCEEDED where `idempotent`, for the call may have done its work.
 *
 * @param idempotent true where doing the work twice is the same as once, such as with event ids
 */
export function shouldRetry(error: PulsewireError, { idempotent }: { idempotent: boolean }): boolean {
  switch (error.code) {
    case Code.Unavailable:
      return true;
    case Code.Aborted:
      return error.reason !== "ETAG_MISMATCH";
    case Code.ResourceExhausted:
      if (error.reason === "MESSAGE_TOO_LARGE") return false;
      return (
        error.retryDelayMs !== undefined || error.reason === "RATE_LIMITED" || error.reason === "OVERLOADED"
      );
    case Code.DeadlineExceeded:
      return idempotent;
    default:
      return false;
  }
}

/**
 * Whether an error that may be retried tells of the server as a whole. Others, such as a quota of the tenant, concern
 * the calls of one kind only.
 */
export function isServerWide({ code, reason }: PulsewireError): boolean {
  switch (code) {
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.Unauthenticated:
      return true;
    default:
      return reason === "RATE_LIMITED" || reason === "OVERLOADED";
  }
}

/**
 * Whether an error says neither that the same call may be made again nor why its items are refused: it comes from something in
 * between, such as a proxy, or of a mistake of the service's own. The cause may be the items, or pass.
 */
export function isSuspect(error: PulsewireError): boolean {
  return (error.reason === "" || error.reason === "INTERNAL") && !shouldRetry(error, { idempotent: true });
}

/** Whether what a gateway sends may be sent again: its ids make it harmless. */
export function mayBeRetried(error: PulsewireError): boolean {
  return shouldRetry(error, { idempotent: true }) || isSuspect(error);
}

/**
 * Exponential back-off with full jitter: an even choice between 0 and the bound of this failure.
 *
 * @param failures failures in a row, from 1
 * @returns milliseconds
 */
export function backoffMs(failures: number, policy: RetryPolicy, random: () => number = Math.random): number {
  const bound = Math.min(policy.maxDelayMs, policy.initialDelayMs * 2 ** (failures - 1));
  return random() * bound;
}

/**
 * How long to wait: the back-off, or the server's delay where that is longer. Up to a fifth is added to the
 * server's delay, so that those who were given the same one do not return in the same moment.
 *
 * @param serverDelayMs what the server asked for, in milliseconds
 * @returns milliseconds, at most what a timer can hold
 */
export function retryDelayMs(
  failures: number,
  serverDelayMs: number | undefined,
  policy: RetryPolicy,
  random: () => number = Math.random,
): number {
  const server = (serverDelayMs ?? 0) * (1 + random() / 5);
  return Math.min(maxTimerMs, Math.max(server, backoffMs(failures, policy, random)));
}

/** Options of {@link sleep}. */
export interface SleepOptions {
  /** Ends the sleep early. */
  signal?: AbortSignal;
  /** False: the sleep alone does not keep the process running. Default true. */
  ref?: boolean;
}

/**
 * Waits.
 *
 * @param ms milliseconds
 * @returns true after the time, false where the signal ended it; it never rejects
 */
export function sleep(ms: number, { signal, ref = true }: SleepOptions = {}): Promise<boolean> {
  if (signal?.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const end = (whole: boolean) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      resolve(whole);
    };
    const onAbort = () => end(false);
    const timer = setTimeout(end, Math.min(ms, maxTimerMs), true);
    if (!ref) unref(timer);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

/** Lets the process end although the timer runs. Timers of browsers are numbers and need nothing. */
export function unref(timer: Timer): void {
  if (typeof timer === "object") timer.unref();
}

/** Keeps the process running until the timer has run out. */
export function ref(timer: Timer): void {
  if (typeof timer === "object") timer.ref();
}

/** What setTimeout returns, in Node and in browsers. */
export type Timer = ReturnType<typeof setTimeout> | number;
