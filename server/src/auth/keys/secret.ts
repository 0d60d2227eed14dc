import { hash, randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";

/** `evp_` and 43 characters of base64url, as the Event Processor documents: 28 random bytes and their CRC-32. */
const form = /^evp_[A-Za-z0-9_-]{43}$/;
const randomLength = 28;

/** Makes the secret of an API key: 224 random bits. */
export function newApiKey(): string {
  const bytes = Buffer.alloc(randomLength + 4);
  randomBytes(randomLength).copy(bytes);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, randomLength)), randomLength);
  return `evp_${bytes.toString("base64url")}`;
}

/** Whether the text can be an API key at all: form and checksum, without any lookup. Secret scanners do the same. */
export function isApiKeyShaped(text: string): boolean {
  if (!form.test(text)) return false;
  const bytes = Buffer.from(text.slice(4), "base64url");
  return crc32(bytes.subarray(0, randomLength)) === bytes.readUInt32BE(randomLength);
}

/** What is stored of a key. SHA-256 is enough: there is nothing to guess in 224 random bits. */
export function hashApiKey(secret: string): Buffer {
  return hash("sha256", secret, "buffer");
}

/** What is shown of a key to recognise it by. */
export function apiKeyPrefix(secret: string): string {
  return secret.slice(0, 12);
}
