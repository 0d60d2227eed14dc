import { readFileSync } from "node:fs";
import path from "node:path";
import type { Settings } from "../../server/src/config/setting-names.ts";
import { type EmbeddedDatabase, startEmbedded } from "../../server/src/db/embedded.ts";
import { ownerRole } from "../../server/src/db/roles.ts";
import { testLogger } from "../helpers/cluster.ts";
import { type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { crashPostgres, postmasterOf } from "./processes.ts";

type Part = "api" | "worker";

/** An installation in parts: the database here, the API and a worker as processes of their own. */
export interface Parts extends AsyncDisposable {
  apiUrl(): string;
  /** What a further process of a part is started with. */
  settingsOf(part: Part): Settings;
  kill(part: Part): Promise<void>;
  start(part: Part): Promise<void>;
  /** Kills PostgreSQL with all its processes. */
  crashDatabase(): Promise<void>;
  /** Starts what does not run. */
  startAll(): Promise<void>;
}

/** On a data folder that a server with everything in it has been started on before. */
export async function startParts(dataDir: string): Promise<Parts> {
  let database: EmbeddedDatabase | undefined = await startEmbedded({ dataDir, logger: testLogger });
  const running = new Map<Part, ServerProcess>();
  const socket = encodeURIComponent(path.join(database.dataDir, "run"));
  const settings = {
    DATABASE_URL: `postgres://${ownerRole}@localhost/pulsewire?host=${socket}`,
    PULSEWIRE_KEY_ENCRYPTION_KEY: readFileSync(path.join(dataDir, "encryption.key"), "utf8").trim(),
    PULSEWIRE_DATA_DIR: dataDir,
  };
  const settingsOf = (part: Part): Settings => ({ ...settings, PULSEWIRE_ROLE: part });
  const start = async (part: Part) => {
    running.set(part, await startServerProcess(settingsOf(part)));
  };
  const kill = async (part: Part) => {
    await running.get(part)?.kill();
    running.delete(part);
  };
  const startAll = async () => {
    database ??= await startEmbedded({ dataDir, logger: testLogger });
    for (const part of ["api", "worker"] as const) if (!running.has(part)) await start(part);
  };
  await startAll();
  return {
    apiUrl: () => running.get("api")?.url ?? "",
    settingsOf,
    kill,
    start,
    startAll,
    async crashDatabase() {
      crashPostgres(postmasterOf(dataDir));
      await database?.exited;
      await database?.stop();
      database = undefined;
    },
    async [Symbol.asyncDispose]() {
      await kill("api");
      await kill("worker");
      await database?.stop();
    },
  };
}
