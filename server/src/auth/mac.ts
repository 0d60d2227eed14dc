import { createHmac, hkdfSync, randomBytes } from "node:crypto";
import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";

/** A keyed hash (HMAC-SHA-256) of the parts, other for each purpose. Without the key nothing can be tried against it. */
export type Mac = (purpose: string, ...parts: readonly string[]) => Buffer;

const secretName = "mac";
const keyLength = 32;

/**
 * Makes the installation's keyed hash. Its key comes from a random secret in the database, the same for all servers,
 * together with the operator's secrets where there are any, which a copy of the database alone does not hold.
 */
export async function openMac(
  db: Kysely<Database>,
  operatorSecrets: readonly (string | Buffer | undefined)[],
): Promise<Mac> {
  const stored = await installationSecret(db);
  const salt = Buffer.concat(operatorSecrets.flatMap((secret) => (secret ? [Buffer.from(secret)] : [])));
  const key = Buffer.from(hkdfSync("sha256", stored, salt, "pulsewire mac", keyLength));
  return (purpose, ...parts) =>
    createHmac("sha256", key)
      .update(JSON.stringify([purpose, ...parts]))
      .digest();
}

async function installationSecret(db: Kysely<Database>): Promise<Buffer> {
  await db
    .insertInto("installation_secrets")
    .values({ name: secretName, value: randomBytes(keyLength) })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const { value } = await db
    .selectFrom("installation_secrets")
    .select("value")
    .where("name", "=", secretName)
    .executeTakeFirstOrThrow();
  return value;
}
