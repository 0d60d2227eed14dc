/** Secrets of webhooks and the signatures they make, as Standard Webhooks has them. */
import { createHmac, randomBytes } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { KeyRing } from "../keyring.ts";
import { invalidField } from "../rpc/errors.ts";

const prefix = "whsec_";
const newBytes = 32;
const minBytes = 24;
const maxBytes = 64;

/** The given secret, once it is found to be Base64 of 24 to 64 bytes, or a new one. Throws INVALID_FIELD. */
export function secretOr(given: string): string {
  if (!given) return prefix + randomBytes(newBytes).toString("base64");
  const bytes = keyOf(given);
  const canonical = bytes.toString("base64");
  if (bytes.length < minBytes || bytes.length > maxBytes || given !== prefix + canonical) {
    throw invalidField(
      "secret",
      `must be '${prefix}' and the Base64 of ${minBytes} to ${maxBytes} bytes; leave it empty and one is made`,
      "secret",
    );
  }
  return given;
}

/** What the secrets of a webhook are sealed for. */
export const secretPurpose = (webhookId: string) => `webhook ${webhookId}`;

/** Signs a message: the value of `webhook-signature`, one signature for each secret. */
export function signatureOf(secrets: readonly string[], id: string, timestamp: number, body: string): string {
  const sign = (secret: string) =>
    createHmac("sha256", keyOf(secret)).update(`${id}.${timestamp}.${body}`).digest("base64");
  return secrets.map((secret) => `v1,${sign(secret)}`).join(" ");
}

function keyOf(secret: string): Buffer {
  return Buffer.from(secret.slice(prefix.length), "base64");
}

/** Opens sealed secrets, and remembers those it opened: opening costs more than signing. */
export interface SecretReader {
  open(webhookId: string, sealed: string): Promise<string>;
}

const remembered = 10_000;

export function createSecretReader(keyring: KeyRing): SecretReader {
  const opened = new LRUCache<string, string>({ max: remembered });
  return {
    async open(webhookId, sealed) {
      const known = opened.get(sealed);
      if (known !== undefined) return known;
      const { text } = await keyring.open(sealed, secretPurpose(webhookId));
      opened.set(sealed, text);
      return text;
    },
  };
}
