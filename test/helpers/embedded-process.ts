/**
 * A server reduced to its database, to be raced and killed: starts the embedded database in the folder given as
 * argument, writes one line of JSON, and stays until it is told to go.
 */
import { EmbeddedDatabaseError, startEmbedded } from "../../server/src/db/embedded.ts";
import { testLogger } from "./cluster.ts";

try {
  const embedded = await startEmbedded({ dataDir: process.argv[2] as string, logger: testLogger });
  process.once("SIGTERM", () => void embedded.stop());
  console.log(JSON.stringify({ pid: embedded.pid }));
} catch (error) {
  if (!(error instanceof EmbeddedDatabaseError)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
