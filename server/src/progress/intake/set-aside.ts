import type { Kysely } from "kysely";
import type { Database } from "../../db/schema.ts";

/** A message that cannot be counted. */
export interface SetAside {
  readonly connector: string;
  /** Where it came from: topic, partition and offset, or the id of the message. */
  readonly position: string;
  readonly reason: string;
  readonly payload: string;
}

/** What is kept of a message, bytes. */
const maxPayloadBytes = 1024 * 1024;

/** Keeps a message for a person to look at. The same again is kept once. */
export async function setAside(db: Kysely<Database>, message: SetAside): Promise<void> {
  await db
    .insertInto("progress_set_aside")
    .values({ ...message, payload: Buffer.from(message.payload).subarray(0, maxPayloadBytes) })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}
