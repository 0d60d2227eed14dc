import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import type { Account } from "./account.ts";
import type { Binaries } from "./binaries.ts";
import { EmbeddedDatabaseError } from "./errors.ts";

const run = promisify(execFile);

/** Only the programs' own defaults: nobody's PGDATA, PGOPTIONS or locale may leak in. */
export const cleanEnvironment = { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" };

export const superuser = "postgres";

export interface ClusterOptions {
  readonly dataDir: string;
  readonly binaries: Binaries;
  readonly account: Account;
  readonly durable: boolean;
}

/** The folder of the cluster itself. */
export const pgdataIn = (dataDir: string) => path.join(dataDir, "pgdata");

/**
 * Makes the cluster if there is none, else checks that this PostgreSQL can read it (`other_version` if not).
 * A new one is made beside its place and renamed, so that a crash never leaves half of one. The caller holds the
 * lock on the data folder.
 */
export async function prepareCluster(options: ClusterOptions): Promise<void> {
  const { dataDir } = options;
  const pgdata = pgdataIn(dataDir);
  await removeLeftovers(dataDir);
  if (existsSync(pgdata)) return checkVersion(pgdata, options.binaries);

  const draft = path.join(dataDir, `${draftPrefix}${process.pid}`);
  await mkdir(draft, { mode: 0o700 });
  await options.account.own(draft);
  await initialize(draft, options);
  // The 0700 folder around the socket is the guard; nobody can connect in any other way.
  await writeFile(path.join(draft, "pg_hba.conf"), "local all all trust\n");
  await rename(draft, pgdata);
  if (options.durable) await syncFolder(dataDir);
}

const draftPrefix = "pgdata.new-";

async function removeLeftovers(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir)) {
    if (name.startsWith(draftPrefix)) await rm(path.join(dataDir, name), { recursive: true, force: true });
  }
}

async function initialize(draft: string, { binaries, account, durable }: ClusterOptions): Promise<void> {
  const [command, args] = account.wrap(binaries.initdb, [
    `--pgdata=${draft}`,
    `--username=${superuser}`,
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--data-checksums",
    "--no-instructions",
    ...(durable ? [] : ["--no-sync"]),
  ]);
  try {
    await run(command, args, { env: cleanEnvironment, cwd: "/" });
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string };
    throw new EmbeddedDatabaseError(
      "start_failed",
      `The embedded PostgreSQL could not make its cluster: ${stderr?.trim() || message}`,
      { cause: error },
    );
  }
}

async function checkVersion(pgdata: string, binaries: Binaries): Promise<void> {
  const { stdout } = await run(binaries.postgres, ["--version"], { env: cleanEnvironment });
  const ours = stdout.match(/\d+/)?.[0];
  const theirs = await readFile(path.join(pgdata, "PG_VERSION"), "utf8").then(
    (text) => text.trim(),
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return "of an unknown version";
      throw error;
    },
  );
  if (ours === theirs) return;
  throw new EmbeddedDatabaseError(
    "other_version",
    `The database in ${pgdata} was made by PostgreSQL ${theirs}; this server brings PostgreSQL ${ours}. Run the release ` +
      `that made it, or move the data over with pg_dump and pg_restore, or choose an empty folder with PULSEWIRE_DATA_DIR.`,
  );
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync().finally(() => handle.close());
}
