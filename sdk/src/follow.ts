import { type CallOptions, Code } from "@connectrpc/connect";
import { toPulsewireError } from "./connect-errors.ts";
import { PulsewireError } from "./errors.ts";
import { defaultRetryPolicy, type RetryPolicy, retryDelayMs, shouldRetry, sleep } from "./retry.ts";

/** Options of {@link follow}. */
export interface FollowOptions {
  /** Ends it with code `Canceled`. */
  signal?: AbortSignal;
  /** Sent with each call. */
  headers?: CallOptions["headers"];
  /** Waits between attempts. `maxAttempts` counts those in a row that brought nothing. Default: without end. */
  retry?: Partial<RetryPolicy>;
  /**
   * A stream that says nothing for so long counts as broken, in milliseconds: the server sends a sign of life every
   * 15 seconds. Default 45,000.
   */
  silenceMs?: number;
  /** Told of each break before the wait. What it throws ends the loop. */
  onBreak?(notice: BreakNotice): void;
}

/** A stream that broke and is taken up again. */
export interface BreakNotice {
  /** What broke it. */
  error: PulsewireError;
  /** Breaks in a row since the last message, this one included. */
  failures: number;
  /** Milliseconds until the next attempt. */
  delayMs: number;
}

/** Three of the server's signs of life. */
const defaultSilenceMs = 45_000;

/**
 * A stream that goes on after a break where it was, without gap and without repeat: after a lost connection, a restart of
 * the server, an expired session or for a reader that was too slow.
 *
 * ```ts
 * for await (const { events } of follow(client.ingestion.watchEvents, {})) show(events);
 * ```
 *
 * Messages are given as they come, those without content, which are signs of life, too. Keep the `cursor` of a message to
 * go on after it another time. Messages before the first cursor, a snapshot in several pieces, are given together when it
 * is complete: one that was cut off begins anew.
 *
 * @param watch a method that takes and sends a `cursor`, such as `watchEvents`, `exportEvents`, `streamLogs`,
 *   `watchProgress`, `exportLineIssues` and `watchAlerts`
 * @param request the filter; its `cursor`, where given, is where to begin
 * @throws PulsewireError where another attempt would not help, such as with reason `CURSOR_EXPIRED`: what follows the
 *   cursor is no longer kept
 */
export async function* follow<Request extends { cursor?: string }, Message extends { cursor: string }>(
  watch: (request: Request, options?: CallOptions) => AsyncIterable<Message>,
  request: Request,
  options: FollowOptions = {},
): AsyncGenerator<Message, void, undefined> {
  const { signal, headers, onBreak, silenceMs = defaultSilenceMs } = options;
  const policy = { ...defaultRetryPolicy, ...options.retry };
  let cursor = request.cursor ?? "";
  let failures = 0;
  let refused = false;
  for (;;) {
    const attempt = new AbortController();
    const silence = { heard: true };
    let held: Message[] = [];
    let broken: PulsewireError;
    try {
      const messages = watch(
        { ...request, cursor },
        {
          signal: signal ? AbortSignal.any([signal, attempt.signal]) : attempt.signal,
          ...(headers && { headers }),
        },
      );
      for await (const message of limitSilence(messages, silenceMs, attempt, silence)) {
        failures = 0;
        refused = false;
        if (message.cursor === "" && cursor === "") {
          held.push(message);
          continue;
        }
        cursor = message.cursor;
        const ready = held;
        held = [];
        yield* ready;
        yield message;
      }
      yield* held;
      return;
    } catch (error) {
      broken = toPulsewireError(error);
    } finally {
      attempt.abort();
    }
    if (!silence.heard) {
      const message = `The stream said nothing for ${silenceMs / 1000} s, not even that it is alive.`;
      broken = new PulsewireError({ code: Code.Unavailable, message, cause: broken });
    }
    failures++;
    // The session may have ended meanwhile; the next call has another token, if there is one.
    const again = broken.code === Code.Unauthenticated ? !refused : helps(broken);
    refused ||= broken.code === Code.Unauthenticated;
    if (signal?.aborted || !again || failures >= policy.maxAttempts) throw broken;
    const delayMs = retryDelayMs(failures, broken.retryDelayMs, policy);
    onBreak?.({ error: broken, failures, delayMs });
    if (!(await sleep(delayMs, signal && { signal }))) throw broken;
  }
}

/** Whether the same stream may be asked for again. */
function helps(error: PulsewireError): boolean {
  return error.reason === "SLOW_READER" || shouldRetry(error, { idempotent: true });
}

/** Aborts the attempt where a message does not come in time. The time that the reader takes does not count. */
async function* limitSilence<T>(
  messages: AsyncIterable<T>,
  silenceMs: number,
  attempt: AbortController,
  silence: { heard: boolean },
): AsyncGenerator<T> {
  const iterator = messages[Symbol.asyncIterator]();
  for (;;) {
    const timer = setTimeout(() => {
      silence.heard = false;
      attempt.abort();
    }, silenceMs);
    const next = await iterator.next().finally(() => clearTimeout(timer));
    if (next.done) return;
    yield next.value;
  }
}
