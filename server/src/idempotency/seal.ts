import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from "node:crypto";
import type { RequestKey } from "./key.ts";

/** What is stored of a call, and the only way to read its answer. */
export interface Seal {
  /** Names the row. */
  readonly id: Buffer;
  /** Differs with the content. */
  readonly fingerprint: Buffer;
  encrypt(answer: Uint8Array): Buffer;
  /** Throws when the row was tampered with. */
  decrypt(sealed: Buffer): Buffer;
}

const nonceLength = 12;
const tagLength = 16;

/**
 * Derives everything from the request id and the content, neither of which is stored: answers hold tokens and
 * passwords, and so do requests. `pepper` is the installation's own secret, where it has one.
 */
export function sealOf({ key, scope, content }: RequestKey, pepper: Buffer | undefined): Seal {
  const id = digest([...scope, key]);
  const secret = digest([key, content]);
  const derived = Buffer.from(
    hkdfSync("sha256", secret, pepper ?? "", Buffer.concat([Buffer.from("pulsewire idempotency"), id]), 64),
  );
  const encryptionKey = derived.subarray(32);
  return {
    id,
    fingerprint: derived.subarray(0, 32),
    encrypt(answer) {
      const nonce = randomBytes(nonceLength);
      const cipher = createCipheriv("aes-256-gcm", encryptionKey, nonce, { authTagLength: tagLength });
      cipher.setAAD(id);
      return Buffer.concat([nonce, cipher.update(answer), cipher.final(), cipher.getAuthTag()]);
    },
    decrypt(sealed) {
      const nonce = sealed.subarray(0, nonceLength);
      const decipher = createDecipheriv("aes-256-gcm", encryptionKey, nonce, { authTagLength: tagLength });
      decipher.setAAD(id);
      decipher.setAuthTag(sealed.subarray(-tagLength));
      return Buffer.concat([decipher.update(sealed.subarray(nonceLength, -tagLength)), decipher.final()]);
    },
  };
}

/** SHA-256 over parts with their lengths, so that no two lists of parts are the same bytes. */
function digest(parts: readonly (string | Uint8Array)[]): Buffer {
  const hash = createHash("sha256");
  for (const part of parts) {
    const bytes = typeof part === "string" ? Buffer.from(part) : part;
    const length = Buffer.alloc(8);
    length.writeBigUInt64BE(BigInt(bytes.length));
    hash.update(length).update(bytes);
  }
  return hash.digest();
}
