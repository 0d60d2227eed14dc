/** A real browser against the server: `npm run test:browser` [options of node --test]. Needs Chromium. */
import { spawnSync } from "node:child_process";
import path from "node:path";
import { findChromium } from "./chromium.ts";

if (!findChromium()) {
  console.error("These tests need Chromium as `chromium` in PATH; install it: apt-get install chromium");
  process.exit(1);
}
const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=120000",
    ...process.argv.slice(2),
    "test/browser/*.test.ts",
  ],
  { cwd: path.join(import.meta.dirname, "../.."), stdio: "inherit" },
);
process.exitCode = status ?? 1;
