import path from "node:path";
import { Client } from "pg";
import { databaseName } from "../../server/src/db/embedded/bootstrap.ts";
import { superuser } from "../../server/src/db/embedded/cluster.ts";
import { schemaName } from "../../server/src/db/roles.ts";

/** Connects to the embedded database of a data folder, past row security: to see what is really there. */
export async function connectToDatabase(dataDir: string): Promise<Client & AsyncDisposable> {
  const client = new Client({
    host: path.join(dataDir, "run"),
    user: superuser,
    database: databaseName,
    application_name: "test",
    options: `-c search_path=${schemaName}`,
  });
  client.on("error", () => {});
  await client.connect();
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.end() });
}
