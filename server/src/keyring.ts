/** Encryption at rest for the few secrets that must be read again: private signing keys, for one. */
import { hash, hkdfSync, randomBytes } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CompactEncrypt, compactDecrypt, decodeProtectedHeader } from "jose";
import type { Config } from "./config/config.ts";
import { encryptionKeys } from "./config/database.ts";
import { ConfigError } from "./config/values.ts";

/** What was sealed, in clear. */
export interface Opened {
  readonly text: string;
  /** It was stored in clear or under an older key: seal it again. */
  readonly stale: boolean;
}

export interface KeyRing {
  /** Encrypts a text for one purpose, such as the id of its row; without a key the text comes back as it is. */
  seal(text: string, purpose: string): Promise<string>;
  /** Reads what `seal` gave for the same purpose. Throws an error that names the setting where the key is missing. */
  open(sealed: string, purpose: string): Promise<Opened>;
  /** 32 bytes that only this installation can make; undefined without a key. */
  derive(purpose: string): Buffer | undefined;
}

const setting = "PULSEWIRE_KEY_ENCRYPTION_KEY";
const keyLength = 32;
const jwe = /^[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+$/;

/** The keys of the operator; with the embedded database, where none is set, one that lies in the data folder. */
export function openKeyRing(config: Config): KeyRing {
  const given = config.keyEncryptionKeys;
  if (given.length > 0 || config.databaseUrl !== undefined) return createKeyRing(given);
  return createKeyRing([keyInFolder(config.dataDir)]);
}

/** The first key encrypts, all decrypt. Sealed texts are JWEs (RFC 7516, `dir` with A256GCM) bound to their purpose. */
export function createKeyRing(keys: readonly Buffer[]): KeyRing {
  const byId = new Map(keys.map((key) => [idOf(key), key]));
  const [first] = keys;
  return {
    async seal(text, purpose) {
      if (!first) return text;
      return await new CompactEncrypt(Buffer.from(text))
        .setProtectedHeader({ alg: "dir", enc: "A256GCM", kid: idOf(first), purpose })
        .encrypt(first);
    },
    async open(sealed, purpose) {
      if (!jwe.test(sealed)) return { text: sealed, stale: first !== undefined };
      const header = decodeProtectedHeader(sealed);
      const key = byId.get(String(header.kid));
      if (!key) {
        throw new ConfigError(
          `${setting} is not the key that the secrets in the database are encrypted with; set that key, ` +
            "or both with a comma, the new one first",
        );
      }
      if (header.purpose !== purpose)
        throw new Error(`a secret of '${header.purpose}' stands at '${purpose}'`);
      const { plaintext } = await compactDecrypt(sealed, key, {
        keyManagementAlgorithms: ["dir"],
        contentEncryptionAlgorithms: ["A256GCM"],
      });
      return { text: Buffer.from(plaintext).toString(), stale: key !== first };
    },
    derive(purpose) {
      return first && Buffer.from(hkdfSync("sha256", first, "", `pulsewire ${purpose}`, keyLength));
    },
  };
}

/** What tells keys apart without telling anything of them. */
function idOf(key: Buffer): string {
  return hash("sha256", Buffer.concat([Buffer.from("pulsewire key id"), key]), "base64url").slice(0, 11);
}

function keyInFolder(dataDir: string): Buffer {
  const file = join(dataDir, "encryption.key");
  try {
    const [key] = encryptionKeys(readFileSync(file, "utf8"));
    if (key) return key;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  const key = randomBytes(keyLength);
  // Renamed into place: a crash never leaves half a key.
  writeFileSync(`${file}.new`, `${key.toString("base64")}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return key;
}
