/**
 * The tools that people call with, as they are: grpcurl, curl, buf curl, and what the server prints to paste; and h2spec, which
 * calls as nobody should. `npm run test:tools` [options of node --test]. Needs curl, and Go to install grpcurl and h2spec once.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, globSync, mkdirSync } from "node:fs";
import path from "node:path";
import { type GoTool, grpcurl, h2spec } from "./tools.ts";

const here = import.meta.dirname;
const root = path.join(here, "../..");

function isThere(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).error === undefined;
}

function fail(message: string): never {
  console.error(message);
  process.exit(1);
}

function install({ path: file, source }: GoTool): void {
  const folder = path.dirname(file);
  if (!isThere("go", "version"))
    fail(`These tests need ${path.basename(file)}, and Go (https://go.dev) to install it into ${folder}`);
  mkdirSync(folder, { recursive: true });
  execFileSync("go", ["install", source], { env: { ...process.env, GOBIN: folder }, stdio: "inherit" });
}

if (!isThere("curl", "--version"))
  fail("These tests need curl; install it, for example: apt-get install curl");
for (const tool of [grpcurl, h2spec]) if (!existsSync(tool.path)) install(tool);

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
