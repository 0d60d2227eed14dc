/** The packages as they are published: `npm run test:package` [options of node --test]. Needs npm and its registry. */
import { spawnSync } from "node:child_process";
import path from "node:path";

const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=180000",
    ...process.argv.slice(2),
    "test/package/*.test.ts",
  ],
  { cwd: path.join(import.meta.dirname, "../.."), stdio: "inherit" },
);
process.exitCode = status ?? 1;
