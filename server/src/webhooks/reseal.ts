import { type Kysely, sql } from "kysely";
import type { Database } from "../db/schema.ts";
import { withWorker } from "../db/tenant.ts";
import type { KeyRing } from "../keyring.ts";
import { secretPurpose } from "./secret.ts";

const gulp = 200;

/**
 * Seals again the secrets that are stored in clear or under an older key of the operator, so that the older key can go.
 * Returns how many webhooks were changed.
 */
export async function resealSecrets(db: Kysely<Database>, keyring: KeyRing): Promise<number> {
  let changed = 0;
  let after: { tenant_id: string; id: string } | undefined;
  for (;;) {
    const rows = await withWorker(db, (trx) => {
      let select = trx
        .selectFrom("webhooks")
        .select(["tenant_id", "id", "secret", "previous_secret"])
        .orderBy("tenant_id")
        .orderBy("id")
        .limit(gulp);
      if (after)
        select = select.where(sql<boolean>`(tenant_id, id) > (${after.tenant_id}::uuid, ${after.id}::uuid)`);
      return select.execute();
    });
    for (const row of rows) {
      const again = async (sealed: string | null) => {
        if (sealed === null) return null;
        const { text, stale } = await keyring.open(sealed, secretPurpose(row.id));
        return stale ? await keyring.seal(text, secretPurpose(row.id)) : sealed;
      };
      const secret = (await again(row.secret)) ?? row.secret;
      const previous = await again(row.previous_secret);
      if (secret === row.secret && previous === row.previous_secret) continue;
      await withWorker(db, (trx) =>
        trx
          .updateTable("webhooks")
          .set({ secret, previous_secret: previous })
          .where("tenant_id", "=", row.tenant_id)
          .where("id", "=", row.id)
          .where("secret", "=", row.secret)
          .execute(),
      );
      changed++;
    }
    after = rows.at(-1);
    if (rows.length < gulp) return changed;
  }
}
