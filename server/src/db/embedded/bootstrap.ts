import { Client, type ClientConfig } from "pg";
import { appRole, ownerRole } from "../roles.ts";

/** The database of the service in the embedded cluster. */
export const databaseName = "pulsewire";

/**
 * Makes the roles and, last, the database: an interrupted first start is completed by the next.
 * The owner is no superuser, so that migrations run with the same rights as on an outside server.
 */
export async function bootstrap(superuser: ClientConfig): Promise<void> {
  const client = new Client(superuser);
  await client.connect();
  try {
    const { rowCount } = await client.query("select from pg_database where datname = $1", [databaseName]);
    if (rowCount) return;
    const { rows } = await client.query<{ rolname: string }>("select rolname from pg_roles");
    const existing = new Set(rows.map((row) => row.rolname));
    for (const role of [ownerRole, appRole]) {
      if (!existing.has(role)) await client.query(`create role ${role} login`);
    }
    await client.query(`grant ${appRole} to ${ownerRole}`);
    await client.query(`create database ${databaseName} owner ${ownerRole}`);
  } finally {
    await client.end();
  }
}
