/** Builds the command line and tries it as a person has it, in real terminals and shells: `npm run test:cli` [options of node --test]. */
import { spawnSync } from "node:child_process";
import path from "node:path";

const root = path.join(import.meta.dirname, "../..");
for (const workspace of ["sdk", "cli"]) {
  const cwd = path.join(root, workspace);
  const built = spawnSync(process.execPath, [path.join(root, "node_modules/.bin/tsup"), "--silent"], {
    cwd,
    stdio: "inherit",
  });
  if (built.status !== 0) process.exit(1);
}
const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=60000",
    "--test-global-setup=test/helpers/global-setup.ts",
    ...process.argv.slice(2),
    "test/cli/*.test.ts",
  ],
  { cwd: root, stdio: "inherit" },
);
process.exitCode = status ?? 1;
