import { importJWK, type JSONWebKeySet, type JWK } from "jose";

/** Longest JWK Set or discovery document that is read, bytes. */
export const maxDocumentBytes = 262_144;
const maxKeys = 100;

/** What a key can be used with, by its type and curve. */
const algorithmsOf: Readonly<Record<string, readonly string[]>> = {
  RSA: ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
  "EC P-256": ["ES256"],
  "EC P-384": ["ES384"],
  "EC P-521": ["ES512"],
  "OKP Ed25519": ["EdDSA", "Ed25519"],
};

/** Members that only private and shared keys have (RFC 7518). */
const privateMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** A JWK Set that cannot be used; the message says why. */
export class UnusableKeys extends Error {
  override name = "UnusableKeys";
}

/**
 * Reads a JWK Set and makes sure that it holds a public key for one of the algorithms, and nothing private. Throws
 * {@link UnusableKeys}.
 */
export async function readJwks(text: string, algorithms: readonly string[]): Promise<JSONWebKeySet> {
  const keys = keysOf(text);
  if (keys.length > maxKeys) throw new UnusableKeys(`has more than ${maxKeys} keys`);
  if (keys.some((key) => privateMembers.some((member) => Object.hasOwn(key, member)))) {
    throw new UnusableKeys("has private or shared keys; give public ones only, and replace those");
  }
  for (const key of keys) if (await isUsable(key, algorithms)) return { keys };
  throw new UnusableKeys(`has no public key for ${algorithms.join(", ")}`);
}

function keysOf(text: string): JWK[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new UnusableKeys("is no JSON");
  }
  const keys = (parsed as { keys?: unknown } | null)?.keys;
  const isObject = (key: unknown) => typeof key === "object" && key !== null && !Array.isArray(key);
  if (!Array.isArray(keys) || !keys.every(isObject)) throw new UnusableKeys("is no JWK Set (RFC 7517)");
  return keys as JWK[];
}

async function isUsable(key: JWK, algorithms: readonly string[]): Promise<boolean> {
  if (key.use !== undefined && key.use !== "sig") return false;
  const possible = algorithmsOf[key.kty === "RSA" ? "RSA" : `${key.kty} ${key.crv}`] ?? [];
  const algorithm = possible.find(
    (name) => algorithms.includes(name) && (key.alg === undefined || key.alg === name),
  );
  if (!algorithm) return false;
  try {
    await importJWK(key, algorithm);
    return true;
  } catch {
    return false;
  }
}
