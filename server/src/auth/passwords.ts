import { argon2, randomBytes, randomInt, timingSafeEqual } from "node:crypto";
import { promisify } from "node:util";

const argon2Async = promisify(argon2);

/** Cost of a password hash: the first choice of the OWASP cheat sheet for argon2id (19 MiB, 2 passes, 1 lane). */
const cost = { memory: 19_456, passes: 2, parallelism: 1 };
const tagLength = 32;

/** Hashes a password as a PHC string, `$argon2id$v=19$m=…,t=…,p=…$salt$hash`. */
export async function hashPassword(password: string): Promise<string> {
  const nonce = randomBytes(16);
  const hash = await argon2Async("argon2id", { message: password, nonce, tagLength, ...cost });
  const { memory, passes, parallelism } = cost;
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(nonce)}$${base64(hash)}`;
}

/**
 * Whether the password is the one of the hash. Without a hash (no such user) it works as long and says no, so that
 * the time taken tells nothing.
 */
export async function verifyPassword(password: string, phc: string | undefined | null): Promise<boolean> {
  const parts = phc ? /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([^$]+)\$([^$]+)$/.exec(phc) : null;
  const [memory, passes, parallelism] = parts ? parts.slice(1, 4).map(Number) : [];
  const nonce = parts?.[4] ? Buffer.from(parts[4], "base64") : randomBytes(16);
  const expected = parts?.[5] ? Buffer.from(parts[5], "base64") : Buffer.alloc(tagLength);
  const actual = await argon2Async("argon2id", {
    message: password,
    nonce,
    tagLength: expected.length,
    memory: memory ?? cost.memory,
    passes: passes ?? cost.passes,
    parallelism: parallelism ?? cost.parallelism,
  });
  return timingSafeEqual(actual, expected) && parts !== null;
}

/** How long a temporary password can be used. */
export const temporaryPasswordTtlMs = 7 * 86_400_000;

const alphabet = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/** A random password of 20 characters that a person can read aloud; 116 bits. */
export function temporaryPassword(): string {
  return Array.from({ length: 20 }, () => alphabet[randomInt(alphabet.length)]).join("");
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64").replace(/=+$/, "");
}
