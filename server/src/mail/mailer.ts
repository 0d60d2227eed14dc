/** E-mail behind a small interface. What is handed over is sent in the background, a few times if need be. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";

/** A message in plain text. */
export interface Mail {
  readonly to: string;
  readonly subject: string;
  readonly text: string;
  /** A UUID that makes repeats of the message known as such. */
  readonly messageId?: string;
}

/** What came of a message by the time the caller goes on. */
export type MailOutcome =
  /** The mail server has taken it. */
  | "sent"
  /** Not yet; it is tried on in the background. */
  | "pending"
  /** The mail server refuses it for good, or too many wait already; the log says why. */
  | "failed";

export interface Mailer {
  /**
   * Sends a message; resolves after at most `answerMs`, and never rejects. Without `answerMs` it does not wait, and does
   * nothing that the time of an answer could tell of.
   */
  send(mail: Mail, options?: { readonly answerMs?: number }): Promise<MailOutcome>;
  /** Gives what is on its way a little time, drops what waits for another attempt, and closes. */
  close(): Promise<void>;
}

/** What a mail server said when it took a message. */
export interface MailReceipt {
  /** Its code, of 2xx. */
  readonly code: number;
  /** The whole line. */
  readonly text: string;
}

/** Hands one message to a mail server, or throws. */
export interface MailTransport {
  deliver(mail: Mail): Promise<MailReceipt>;
  close(): void;
}

/** Bounds of sending; times in milliseconds. */
export const mailLimits = {
  /** Messages that may wait; beyond, they fail at once. */
  maxWaiting: 1_000,
  /** Messages that are sent side by side. */
  concurrency: 4,
  /** Attempts for one message; the pauses between grow from `retryMinMs`, doubling, to `retryMaxMs`. */
  attempts: 6,
  retryMinMs: 1_000,
  retryMaxMs: 60_000,
  /** When nobody waits for a message, it is begun so much later, give or take a half: after the call is answered. */
  leadMs: 50,
  /** How long a call that wants to know the outcome waits for it. */
  answerMs: 3_000,
  /** How long `close` waits. */
  closeMs: 3_000,
};

export type MailLimits = typeof mailLimits;

/** Sends through a transport, with retries. The log says why a message failed, and nothing that stands in it. */
export function createMailer(
  transport: MailTransport,
  logger: Logger,
  limits: MailLimits = mailLimits,
): Mailer {
  const closing = new AbortController();
  const inFlight = new Set<Promise<MailReceipt>>();
  const waiting: (() => void)[] = [];
  let accepted = 0;
  let sending = 0;

  /** One of the places to send from, first come, first served. */
  const withPlace = async (deliver: () => Promise<MailReceipt>) => {
    if (sending >= limits.concurrency) await new Promise<void>((go) => waiting.push(go));
    else sending++;
    try {
      closing.signal.throwIfAborted();
      const delivery = deliver();
      inFlight.add(delivery);
      await delivery.finally(() => inFlight.delete(delivery));
    } finally {
      const next = waiting.shift();
      if (next) next();
      else sending--;
    }
  };

  const pause = (ms: number) => sleep(ms, undefined, { signal: closing.signal }).catch(() => {});

  const run = async (mail: Mail, leadMs: number): Promise<MailOutcome> => {
    if (leadMs > 0) await pause(leadMs * (0.5 + Math.random()));
    for (let attempt = 1; ; attempt++) {
      try {
        await withPlace(() => transport.deliver(mail));
        return "sent";
      } catch (err) {
        if (closing.signal.aborted || attempt >= limits.attempts || isPermanent(err)) {
          logger.error({ err, attempt }, "an e-mail could not be sent");
          return "failed";
        }
        logger.warn({ err, attempt }, "an e-mail could not be sent yet");
        await pause(Math.min(limits.retryMinMs * 2 ** (attempt - 1), limits.retryMaxMs));
      }
    }
  };

  return {
    async send(mail, { answerMs = 0 } = {}) {
      if (accepted >= limits.maxWaiting || closing.signal.aborted) {
        logger.error({ waiting: accepted }, "an e-mail was refused: too many wait already");
        return "failed";
      }
      accepted++;
      const outcome = run(mail, answerMs === 0 ? limits.leadMs : 0).finally(() => accepted--);
      if (answerMs === 0) return "pending";
      const timer = new AbortController();
      const late = sleep(answerMs, "pending" as const, { signal: timer.signal }).catch(
        () => "pending" as const,
      );
      return await Promise.race([outcome, late]).finally(() => timer.abort());
    },
    async close() {
      closing.abort();
      for (const go of waiting.splice(0)) go();
      const timer = new AbortController();
      const late = sleep(limits.closeMs, undefined, { signal: timer.signal }).catch(() => {});
      await Promise.race([Promise.allSettled(inFlight), late]).finally(() => timer.abort());
      transport.close();
    },
  };
}

/** A reply of 5xx: the same message will be refused again (RFC 5321, 4.2.1). */
function isPermanent(error: unknown): boolean {
  const { responseCode } = error as { responseCode?: number };
  return responseCode !== undefined && responseCode >= 500;
}
