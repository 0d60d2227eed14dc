import { randomBytes } from "node:crypto";
import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";

const name = "installation";

/** What marks things of ours in a runtime that others use, too: the same for all servers of a database. No secret. */
export async function installationId(db: Kysely<Database>): Promise<string> {
  await db
    .insertInto("installation_secrets")
    .values({ name, value: randomBytes(6) })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  const { value } = await db
    .selectFrom("installation_secrets")
    .select("value")
    .where("name", "=", name)
    .executeTakeFirstOrThrow();
  return value.toString("hex");
}
