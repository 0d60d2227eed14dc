/**
 * Writes the schema that the migrations make to server/schema.sql. With --check, compares instead, and fails when the
 * two differ or when a table would not keep tenants apart.
 */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { diff } from "node:util";
import { pino } from "pino";
import { dumpSchema } from "../server/src/db/dump.ts";
import { startEmbedded } from "../server/src/db/embedded.ts";
import { migrate } from "../server/src/db/migrate.ts";
import { createOwnerPool } from "../server/src/db/pool.ts";
import { findUnprotectedTables } from "../server/src/db/protection.ts";

const golden = path.join(import.meta.dirname, "../server/schema.sql");
const logger = pino({ level: "warn" });

async function inspect(): Promise<{ schema: string; unprotected: string[] }> {
  await using undo = new AsyncDisposableStack();
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-schema-"));
  undo.defer(() => rm(dataDir, { recursive: true, force: true }));
  const embedded = await startEmbedded({ dataDir, logger, durable: false });
  undo.defer(embedded.stop);
  await migrate(embedded.connection("owner"), { logger });
  const { db, close } = createOwnerPool(embedded.connection("owner"), { logger });
  undo.defer(close);
  return { schema: await dumpSchema(db), unprotected: await findUnprotectedTables(db) };
}

function changedLines(before: string, after: string): string[] {
  return diff(before.split("\n"), after.split("\n")).flatMap(([operation, line]) =>
    operation === 0 ? [] : [`${operation < 0 ? "-" : "+"} ${line}`],
  );
}

const { schema, unprotected } = await inspect();
const problems = unprotected.map((line) => `not protected: ${line}`);
if (process.argv.includes("--check")) {
  const before = await readFile(golden, "utf8").catch(() => "");
  if (before !== schema) {
    problems.push("server/schema.sql differs from the migrations; run: node scripts/schema.ts");
    problems.push(...changedLines(before, schema));
  }
} else {
  await writeFile(golden, schema);
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
