import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

// Runs Connect's conformance suite against the listener: node test/conformance/run.ts [options of the suite]
// Needs Go, to install the suite once.

const module = "connectrpc.com/conformance";
const version = "v1.0.7";
const timeoutMs = 10 * 60_000;

const here = import.meta.dirname;
const root = resolve(here, "../..");
const tools = join(root, ".cache/tools", `connectconformance-${version}`);
const suite = join(tools, "connectconformance");
const descriptors = join(root, ".cache/conformance-gen", `descriptors-${version}.binpb`);

if (!existsSync(suite)) {
  mkdirSync(tools, { recursive: true });
  execFileSync("go", ["install", `${module}/cmd/connectconformance@${version}`], {
    env: { ...process.env, GOBIN: tools },
    stdio: "inherit",
  });
}
if (!existsSync(descriptors)) {
  mkdirSync(join(descriptors, ".."), { recursive: true });
  const download = execFileSync("go", ["mod", "download", "-json", `${module}@${version}`], {
    encoding: "utf8",
  });
  const { Dir } = JSON.parse(download) as { Dir: string };
  const buf = join(root, "node_modules/.bin/buf");
  execFileSync(buf, ["build", join(Dir, "proto"), "--as-file-descriptor-set", "-o", descriptors], {
    stdio: "inherit",
  });
}

const notes = mkdtempSync(join(tmpdir(), "pulsewire-conformance-"));
const countsFile = join(notes, "counts.jsonl");
const server = [process.execPath, join(here, "server.ts"), descriptors, countsFile];
const args = [
  "--mode",
  "server",
  "--conf",
  join(here, "config.yaml"),
  ...process.argv.slice(2),
  "--",
  ...server,
];
// A group of its own, so that a time-out ends the servers it started too.
const run = spawn(suite, args, { stdio: ["ignore", "inherit", "inherit"], detached: true });
const timer = setTimeout(() => {
  console.error(`the suite did not end within ${timeoutMs / 1000} s`);
  stop();
  process.exitCode = 1;
}, timeoutMs);
process.once("SIGINT", stop).once("SIGTERM", stop);
run.once("error", (error) => {
  clearTimeout(timer);
  console.error(error.message);
  process.exitCode = 1;
});
run.once("exit", (code) => {
  clearTimeout(timer);
  process.exitCode ||= code ?? 1;
  if (process.argv.length === 2 && !tookLeanPath()) process.exitCode = 1;
  rmSync(notes, { recursive: true });
});

/** Prints which way the calls went; false where one of the ways was not used, and so not tested. */
function tookLeanPath(): boolean {
  const servers = existsSync(countsFile) ? readFileSync(countsFile, "utf8").trim().split("\n") : [];
  const counts = servers.map((line) => JSON.parse(line) as Record<string, number>);
  const sum = (name: string) => counts.reduce((total, each) => total + (each[name] ?? 0), 0);
  const names = ["unary", "streams", "handedOver", "declined"];
  console.log(`Lean path: ${names.map((name) => `${name} ${sum(name)}`).join(", ")}`);
  return names.every((name) => sum(name) > 0);
}

function stop(): void {
  if (run.pid !== undefined && run.exitCode === null) process.kill(-run.pid, "SIGKILL");
}
