/**
 * The tools that people call with, as they are: grpcurl, curl, buf curl, and what the server prints to paste.
 * `npm run test:tools` [options of node --test]. Needs curl, and Go to install grpcurl once.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync } from "node:fs";
import path from "node:path";
import { grpcurl, grpcurlVersion } from "./tools.ts";

const here = import.meta.dirname;
const root = path.join(here, "../..");

function isThere(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).error === undefined;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}

if (!isThere("curl", "--version"))
  fail("These tests need curl; install it, for example: apt-get install curl");
if (!existsSync(grpcurl)) {
  if (!isThere("go", "version")) {
    fail(`These tests need grpcurl, and Go (https://go.dev) to install it into ${path.dirname(grpcurl)}`);
  }
  mkdirSync(path.dirname(grpcurl), { recursive: true });
  execFileSync("go", ["install", `github.com/fullstorydev/grpcurl/cmd/grpcurl@${grpcurlVersion}`], {
    env: { ...process.env, GOBIN: path.dirname(grpcurl) },
    stdio: "inherit",
  });
}
const { status } = spawnSync(
  process.execPath,
  [
    "--conditions=pulsewire-source",
    "--test",
    "--test-timeout=120000",
    "--test-global-setup=test/helpers/global-setup.ts",
    ...process.argv.slice(2),
    ...globSync("*.test.ts", { cwd: here }).map((file) => path.join("test/tools", file)),
  ],
  { cwd: root, stdio: "inherit" },
);
process.exitCode = status ?? 1;
