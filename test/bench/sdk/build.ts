import { execFileSync } from "node:child_process";
import path from "node:path";
import { pathToFileURL } from "node:url";

const root = path.resolve(import.meta.dirname, "../../..");
const directory = path.join(root, ".cache/sdk-bench");

/** Where the SDK's gateway is as it is published: the others are measured as they are published, too. */
export const builtSdk = pathToFileURL(path.join(directory, "gateway-node.js")).href;

/** Builds it. */
export function buildSdk(): void {
  const tsup = path.join(root, "node_modules/.bin/tsup");
  const options = ["--format", "esm", "--no-splitting", "--silent", "--out-dir", directory];
  execFileSync(process.execPath, [tsup, ...options], {
    cwd: path.join(root, "sdk"),
    stdio: ["ignore", "ignore", "inherit"],
  });
}
