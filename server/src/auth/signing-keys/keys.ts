import { type CryptoKey, importJWK, type JWK } from "jose";
import type { Kysely } from "kysely";
import type { Logger } from "pino";
import type { AuthConfig } from "../../config/auth.ts";
import type { Database } from "../../db/schema.ts";
import type { KeyRing } from "../../keyring.ts";
import {
  purposeOf,
  type RotationTimes,
  rotateSigningKeys,
  rotationIsDue,
  signingAlgorithm,
} from "./rotate.ts";
import { listSigningKeys } from "./store.ts";

type Key = CryptoKey | Uint8Array;

/** The keys that tokens are signed and checked with. */
export interface SigningKeys {
  /** The only `alg` that is used and accepted. */
  readonly algorithm: string;
  /** The key that signs now. */
  current(): { readonly kid: string | undefined; readonly key: Key };
  /** The key that a token names. Rejects for one that is not ours. */
  find(kid: string | undefined): Promise<Key>;
  /** The public keys (RFC 7517): those that signed, that sign, and that will. Empty with a shared secret. */
  publicKeys(): readonly JWK[];
  close(): void;
}

/** Opens the keys that the settings ask for: HS256 with a shared secret, or EdDSA with keys from the database. */
export async function openSigningKeys(
  db: Kysely<Database>,
  ring: KeyRing,
  settings: AuthConfig,
  logger: Logger,
): Promise<SigningKeys> {
  if (settings.jwtSecret) return sharedSecret(settings.jwtSecret);
  const longestTokenMs =
    Math.max(settings.accessTokenTtlSeconds, settings.developmentTokenTtlSeconds) * 1_000;
  const times = {
    periodMs: settings.signingKeyPeriodMs,
    leadMs: settings.signingKeyLeadMs,
    overlapMs: longestTokenMs + overlapMarginMs,
  };
  return await storedKeys(db, ring, times, logger);
}

/** A shared secret and HS256: nothing to publish, nothing to rotate. */
function sharedSecret(secret: string): SigningKeys {
  const key = new TextEncoder().encode(secret);
  return {
    algorithm: "HS256",
    current: () => ({ kid: undefined, key }),
    find: async () => key,
    publicKeys: () => [],
    close: () => {},
  };
}

/** How often the keys are read again, at most; more often where the lead is short. */
const reloadIntervalMs = 60_000;
/** How often an unknown key may cause a look at the database. */
const unknownKeyIntervalMs = 5_000;

/** Clocks that differ, and a server that has not read the keys again. */
const overlapMarginMs = 2 * reloadIntervalMs;

interface Loaded {
  readonly kid: string;
  readonly signsFromMs: number;
  readonly privateKey: Key;
  readonly publicKey: Key;
  readonly publicJwk: JWK;
}

/** Keys from the database, read again several times within the lead, so that every server knows a key before it signs. */
async function storedKeys(
  db: Kysely<Database>,
  ring: KeyRing,
  times: RotationTimes,
  logger: Logger,
): Promise<SigningKeys> {
  let keys: readonly Loaded[] = [];
  let loadedAtMs = 0;
  let loading: Promise<void> | undefined;
  const intervalMs = Math.min(reloadIntervalMs, times.leadMs / 4);

  async function load(): Promise<void> {
    let rows = await listSigningKeys(db);
    if (keys.length === 0 || rotationIsDue(rows, times, Date.now())) {
      await rotateSigningKeys(db, ring, times);
      rows = await listSigningKeys(db);
    }
    const known = new Map(keys.map((key) => [key.kid, key]));
    keys = await Promise.all(
      rows.map(async (row) => {
        const found = known.get(row.kid);
        if (found) return found;
        const privateJwk = JSON.parse((await ring.open(row.private_key, purposeOf(row.kid))).text) as JWK;
        const publicJwk = row.public_jwk as JWK;
        return {
          kid: row.kid,
          signsFromMs: row.signs_from.getTime(),
          privateKey: await importJWK(privateJwk, signingAlgorithm),
          publicKey: await importJWK(publicJwk, signingAlgorithm),
          publicJwk: { ...publicJwk, kid: row.kid, alg: signingAlgorithm, use: "sig" },
        };
      }),
    );
    loadedAtMs = Date.now();
  }
  const reload = () => {
    loading ??= load().finally(() => {
      loading = undefined;
    });
    return loading;
  };

  await reload();
  const timer = setInterval(() => {
    reload().catch((err: unknown) =>
      logger.warn({ err }, "signing keys could not be read; the known ones go on"),
    );
  }, intervalMs).unref();

  return {
    algorithm: signingAlgorithm,
    current() {
      const now = Date.now();
      const key = keys.findLast(({ signsFromMs }) => signsFromMs <= now) ?? keys[0];
      if (!key) throw new Error("there is no signing key");
      return { kid: key.kid, key: key.privateKey };
    },
    async find(kid) {
      const lookUp = () => keys.find((key) => key.kid === kid)?.publicKey;
      let key = lookUp();
      if (!key && kid && Date.now() - loadedAtMs > Math.min(unknownKeyIntervalMs, intervalMs)) {
        await reload();
        key = lookUp();
      }
      if (!key) throw new Error("signed by an unknown key");
      return key;
    },
    publicKeys: () => keys.map(({ publicJwk }) => publicJwk),
    close: () => clearInterval(timer),
  };
}
