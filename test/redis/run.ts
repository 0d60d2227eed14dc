/** The suites that know Redis, with Redis required: `npm run test:redis`. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=180000",
    "--test-global-setup=test/helpers/global-setup.ts",
    "test/analytics-answers.test.ts",
    "test/bus.test.ts",
    "test/rate-limits.test.ts",
  ],
  { cwd: root, stdio: "inherit", env: { ...process.env, PULSEWIRE_TEST_REDIS: "required" } },
);
process.exitCode = status ?? 1;
