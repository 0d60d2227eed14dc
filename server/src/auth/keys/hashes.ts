import { hash } from "node:crypto";

/** Hashes of secrets that are used again and again. */
export interface SecretHashes {
  /** SHA-256 of a secret, base64. */
  of(secret: string): string;
  /** Keeps the hash for the next calls: to be called with secrets that have proved right, never with what anybody may invent. */
  keep(secret: string, hash: string): void;
}

/** Most secrets kept in each of two generations, and how long a generation lasts. */
const generation = { size: 1_000, ms: 30_000 };

/**
 * A hash takes as long as the rest of authenticating a known key, so those of keys in use are remembered by the secret itself.
 * What that adds to what memory holds of secrets anyway (buffers and header tables of open connections) is bounded: right keys
 * only, a thousand or two, for a minute at most after their last use, or until the next call of any key after that. Whether a key
 * is good is asked anew with every call: a revoked one is refused at once.
 */
export function createSecretHashes(now: () => number = Date.now): SecretHashes {
  let young = new Map<string, string>();
  let old = new Map<string, string>();
  let bornMs = now();

  const age = (): void => {
    const nowMs = now();
    const generations = Math.floor((nowMs - bornMs) / generation.ms);
    if (generations < 1 && young.size < generation.size) return;
    old = generations > 1 ? new Map() : young;
    young = new Map();
    bornMs = nowMs;
  };
  return {
    of(secret) {
      const found = young.get(secret) ?? old.get(secret);
      return found ?? hash("sha256", secret, "base64");
    },
    keep(secret, hashed) {
      age();
      if (!young.has(secret)) young.set(secret, hashed);
    },
  };
}
