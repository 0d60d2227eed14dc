/**
 * What a newcomer does, in a fresh clone: `npm ci && npm start`, the demo twice, then start again on the same folder.
 * Needs git and npm only. Prints a line for each step; ends with code 1 at the first that is wrong.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const repository = join(import.meta.dirname, "../..");
const workplace = mkdtempSync(join(tmpdir(), "pulsewire-install-"));
const clone = join(workplace, "pulsewire");

/** Without the repository's own `node_modules/.bin`, which npm puts in front: the clone must bring what it needs. */
const env = {
  ...Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !/^(npm_|NODE_|PULSEWIRE_|INIT_CWD)/.test(name)),
  ),
  PATH: (process.env.PATH ?? "")
    .split(delimiter)
    .filter((folder) => !folder.includes("node_modules"))
    .join(delimiter),
};

function step(name: string, action: () => void): void {
  const started = performance.now();
  action();
  console.log(`ok  ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
}

function npm(args: readonly string[], settings: Record<string, string> = {}): string {
  return execFileSync("npm", [...args], {
    cwd: clone,
    env: { ...env, ...settings },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** `npm start`, up to the moment when it is ready. */
async function start(port: number): Promise<{ child: ChildProcess; output: () => string }> {
  const child = spawn("npm", ["start"], { cwd: clone, env: { ...env, PORT: String(port) }, detached: true });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (output += chunk));
  for (const deadline = Date.now() + 60_000; ; ) {
    const ready = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ status }) => status === 200,
      () => false,
    );
    if (ready && output.includes("npm run demo")) return { child, output: () => output };
    assert.ok(child.exitCode === null && Date.now() < deadline, `npm start did not become ready:\n${output}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** As Ctrl-C does: to the whole group. */
async function stop(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once("close", resolve));
  process.kill(-(child.pid ?? 0), "SIGINT");
  await ended;
}

/** The line `Events: 6,119 accepted, 0 duplicate, …` of the demo. */
function outcomes(output: string): { accepted: number; duplicate: number } {
  const [, accepted, duplicate] =
    /Events: ([\d,]+) accepted, ([\d,]+) duplicate, 0 conflicting, 0 rejected/.exec(output) ?? [];
  assert.ok(accepted && duplicate, `the demo says nothing of its events:\n${output}`);
  return { accepted: Number(accepted.replaceAll(",", "")), duplicate: Number(duplicate.replaceAll(",", "")) };
}

let running: ChildProcess | undefined;
try {
  step("git clone", () => execFileSync("git", ["clone", "--quiet", repository, clone]));
  step("npm ci", () => npm(["ci"]));
  console.log(
    `    runtime ${execFileSync(join(clone, "node_modules/.bin/node"), ["--version"], { encoding: "utf8" }).trim()}`,
  );
  const port = await freePort();

  const first = await start(port);
  running = first.child;
  console.log("ok  npm start");
  const credentials = readFileSync(join(clone, ".pulsewire/demo.json"), "utf8");
  const demo = (name: string) => {
    let output = "";
    step(name, () => {
      output = npm(["run", "demo", "--", "--seconds", "2"]);
    });
    return output;
  };
  const firstRun = demo("npm run demo");
  const secondRun = demo("npm run demo, again");
  const [once, twice] = [outcomes(firstRun), outcomes(secondRun)];
  assert.ok(once.accepted > 0 && once.duplicate === 0, firstRun);
  assert.deepEqual(twice, { accepted: 0, duplicate: once.accepted }, secondRun);
  console.log(
    `ok  ${once.accepted} events accepted by the first run, ${twice.duplicate} duplicates in the second`,
  );
  await stop(first.child);
  running = undefined;

  const second = await start(port);
  running = second.child;
  assert.equal(readFileSync(join(clone, ".pulsewire/demo.json"), "utf8"), credentials);
  console.log("ok  npm start, again, on the same folder and with the same credentials");
  await stop(second.child);
  running = undefined;
  console.log("8 passed, 0 failed");
} catch (error) {
  console.error(error);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
} finally {
  if (running) await stop(running);
  rmSync(workplace, { recursive: true, force: true });
}
