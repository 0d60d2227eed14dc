import { randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair } from "jose";
import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";
import type { KeyRing } from "../../keyring.ts";
import { type SigningKeyRow, withSigningKeys } from "./store.ts";

/** EdDSA with Ed25519. */
export const signingAlgorithm = "EdDSA";

/** When keys begin and end, milliseconds. */
export interface RotationTimes {
  /** How long a key signs. */
  readonly periodMs: number;
  /** How long before that it stands in the JWKS, so that every server and every cache knows it. */
  readonly leadMs: number;
  /** How long after that it is still accepted: the life of the longest token, and a little. */
  readonly overlapMs: number;
}

/** Purpose of the sealed private key; a row's key opens in that row only. */
export const purposeOf = (kid: string): string => `signing key ${kid}`;

/**
 * Makes the first key where there is none and the next one when its time has come, and deletes those whose tokens have
 * all expired. Any number of servers may do this at once. A key that is stored in clear, or under an older encryption
 * key, is sealed anew.
 */
export async function rotateSigningKeys(
  db: Kysely<Database>,
  ring: KeyRing,
  times: RotationTimes,
): Promise<void> {
  await withSigningKeys(db, async (trx, keys, now) => {
    const newest = keys.at(-1);
    const nextFrom = newest ? newest.signs_from.getTime() + times.periodMs : now.getTime();
    if (!newest || nextFrom - times.leadMs <= now.getTime()) {
      // The first key signs at once: there are no tokens, and nobody knows an older JWKS.
      const signsFrom = newest ? Math.max(nextFrom, now.getTime() + times.leadMs) : nextFrom;
      await trx
        .insertInto("signing_keys")
        .values(await newKey(ring, new Date(signsFrom)))
        .execute();
    }
    for (const [index, key] of keys.entries()) {
      const successor = keys[index + 1];
      if (successor && successor.signs_from.getTime() + times.overlapMs <= now.getTime()) {
        await trx.deleteFrom("signing_keys").where("kid", "=", key.kid).execute();
      } else {
        const { text, stale } = await ring.open(key.private_key, purposeOf(key.kid));
        if (!stale) continue;
        const private_key = await ring.seal(text, purposeOf(key.kid));
        await trx.updateTable("signing_keys").set({ private_key }).where("kid", "=", key.kid).execute();
      }
    }
  });
}

/** Whether {@link rotateSigningKeys} would have something to do. */
export function rotationIsDue(keys: readonly SigningKeyRow[], times: RotationTimes, nowMs: number): boolean {
  const [oldest, second] = keys;
  const newest = keys.at(-1);
  return (
    !oldest ||
    !newest ||
    newest.signs_from.getTime() + times.periodMs - times.leadMs <= nowMs ||
    (second !== undefined && second.signs_from.getTime() + times.overlapMs <= nowMs)
  );
}

async function newKey(ring: KeyRing, signsFrom: Date) {
  const { publicKey, privateKey } = await generateKeyPair(signingAlgorithm, { extractable: true });
  const kid = randomUUID();
  return {
    kid,
    algorithm: signingAlgorithm,
    public_jwk: JSON.stringify(await exportJWK(publicKey)),
    private_key: await ring.seal(JSON.stringify(await exportJWK(privateKey)), purposeOf(kid)),
    signs_from: signsFrom,
  };
}
