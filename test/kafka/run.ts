/**
 * The suite that needs a broker of Kafka, kcat and Maven: `npm run test:kafka [-- reports]`. The broker is fetched from
 * Maven Central into `.cache` once.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const [load] = process.argv.slice(2);
const { status } = spawnSync(
  process.execPath,
  ["--conditions=pulsewire-source", "--test", "--test-timeout=300000", "test/kafka/progress.test.ts"],
  { cwd: root, stdio: "inherit", env: { ...process.env, ...(load && { PULSEWIRE_KAFKA_LOAD: load }) } },
);
process.exitCode = status ?? 1;
