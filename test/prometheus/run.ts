/** A real Prometheus scrapes this server's own `/metrics` and writes here: `npm run test:prometheus`. Needs Debian's `prometheus`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

if (spawnSync("prometheus", ["--version"], { stdio: "ignore" }).error) {
  console.error("These tests need Prometheus; install it, for example: apt-get install prometheus");
  process.exit(1);
}
const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=60000",
    "--test-global-setup=test/helpers/global-setup.ts",
    "test/prometheus/remote-write.test.ts",
  ],
  { cwd: join(import.meta.dirname, "../.."), stdio: "inherit" },
);
process.exitCode = status ?? 1;
