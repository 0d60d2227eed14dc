/** The scripts under examples/ do what they say, as they are, against a server as `npm start` starts it. */
import { globSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { outputOf } from "./tools.ts";

const examples = path.join(import.meta.dirname, "../../examples");
/** One that has `requests`. */
const python = process.env.PYTHON ?? "/usr/bin/python3";

let dataDir: string;
let server: ServerProcess;

before(async () => {
  dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-examples-"));
  server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
});
after(async () => {
  await server.stop();
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
});

const run = (...command: string[]) =>
  outputOf(
    "env",
    `BASE=${server.url}`,
    `PULSEWIRE_URL=${server.url}`,
    `PULSEWIRE_DATA_DIR=${dataDir}`,
    ...command,
  );

for (const script of globSync("curl/*.sh", { cwd: examples }).filter((name) => !name.endsWith("common.sh"))) {
  test(script, async () => void (await run("bash", path.join(examples, script))));
}

for (const script of ["python/events.py", "python/eventflow.py"]) {
  test(script, async () => void (await run(python, path.join(examples, script))));
}

test("typescript/eventflow.ts", async () => {
  await run(process.execPath, path.join(examples, "typescript/eventflow.ts"));
});

test("go", async () => void (await run("go", "run", "-C", path.join(examples, "go"), ".")));
