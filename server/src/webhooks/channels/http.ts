/** A signed POST, as Standard Webhooks has it. */
import type { Answer, Poster } from "../../net/post.ts";
import type { ClaimedDelivery } from "../claim.ts";
import { readRetryAfter } from "../schedule.ts";
import { type SecretReader, signatureOf } from "../secret.ts";
import { type Deliver, excerpt, type Outcome } from "./outcome.ts";

const gone = 410;

export interface HttpOptions {
  readonly poster: Poster;
  readonly secrets: SecretReader;
  readonly timeoutMs: number;
  readonly now: () => number;
}

export function createHttpChannel({ poster, secrets, timeoutMs, now }: HttpOptions): Deliver {
  return async (delivery, signal) => {
    const body = JSON.stringify(delivery.payload);
    const timestamp = Math.floor(now() / 1_000);
    const signature = signatureOf(
      await secretsOf(delivery, secrets, now()),
      delivery.messageId,
      timestamp,
      body,
    );
    const headers = {
      "content-type": "application/json",
      "user-agent": "pulsewire-webhooks/1",
      "webhook-id": delivery.messageId,
      "webhook-timestamp": String(timestamp),
      "webhook-signature": signature,
    };
    try {
      return outcomeOf(await poster.post(delivery.destination, { headers, body, timeoutMs, signal }), now());
    } catch (error) {
      signal.throwIfAborted();
      return { accepted: false, status: 0, body: "", error: (error as Error).message };
    }
  };
}

async function secretsOf(
  { webhook }: ClaimedDelivery,
  secrets: SecretReader,
  nowMs: number,
): Promise<string[]> {
  if (!webhook) throw new TypeError("a delivery by HTTP is a webhook's");
  const { id, secret, previousSecret, previousSecretExpiresAt } = webhook;
  const sealed = [secret];
  if (previousSecret && previousSecretExpiresAt && previousSecretExpiresAt.getTime() > nowMs) {
    sealed.push(previousSecret);
  }
  return await Promise.all(sealed.map((one) => secrets.open(id, one)));
}

function outcomeOf({ status, headers, body }: Answer, nowMs: number): Outcome {
  const answer = { status, body: excerpt(body) };
  if (status >= 200 && status < 300) return { ...answer, accepted: true, error: "" };
  if (status === gone) {
    const error = "the receiver answered 410: it wants nothing any more";
    return { ...answer, accepted: false, permanent: true, gone: true, error };
  }
  const error =
    status >= 300 && status < 400
      ? `the receiver answered ${status}; redirects are not followed, change the webhook's url`
      : `the receiver answered ${status}`;
  return {
    ...answer,
    accepted: false,
    error,
    retryAfterMs: readRetryAfter(headers["retry-after"], nowMs),
  };
}
