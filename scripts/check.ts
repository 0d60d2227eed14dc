/** All checks that need no server: `npm run check`. Runs them all and names those that fail. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { checkDocuments } from "./documents.ts";
import { generate } from "./gen.ts";
import { layOutProtoDeps } from "./proto-deps.ts";

const root = join(import.meta.dirname, "..");

/** The contract as it was last released; `npm run release:contract` writes it. */
const released = "proto/released.binpb";

const checks: Record<string, () => void> = {
  types: () => run("tsc", "-p", "."),
  "lint and format": () => run("biome", "ci", "--colors=off", "."),
  "contract: lint": () => run("buf", "lint"),
  "contract: format": () => run("buf", "format", "proto", "--diff", "--exit-code"),
  "contract: breaking changes": checkBreaking,
  "generated code": checkGeneratedCode,
  "database schema": () => run("node", "scripts/schema.ts", "--check"),
  READMEs: checkDocuments,
};

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { cwd: root, stdio: "inherit" });
}

/** Image against image: the contract's own files only, whatever becomes of its dependencies. */
function checkBreaking(): void {
  inTemporaryFolder((folder) => {
    const current = join(folder, "contract.binpb");
    run("buf", "build", ".", "--path", "proto/pulsewire", "-o", current);
    run("buf", "breaking", current, "--against", released, "--exclude-imports");
  });
}

function inTemporaryFolder(use: (folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), "pulsewire-check-"));
  try {
    use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Generates anew beside the tree and compares: what is committed must be what the contract makes. */
function checkGeneratedCode(): void {
  inTemporaryFolder((fresh) => {
    generate(fresh);
    const differing = ["server/src/gen", "sdk/src/gen"].flatMap((folder) => {
      const [committed, made] = [filesIn(join(root, folder)), filesIn(join(fresh, folder))];
      return [...new Set([...committed.keys(), ...made.keys()])]
        .filter((file) => committed.get(file) !== made.get(file))
        .map((file) => join(folder, file));
    });
    if (differing.length > 0)
      throw new Error(`differs from the contract; run npm run gen:\n${differing.join("\n")}`);
  });
}

function filesIn(folder: string): Map<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    entries
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [relative(folder, path), readFileSync(path, "utf8")]),
  );
}

layOutProtoDeps();
const failed: string[] = [];
for (const [name, check] of Object.entries(checks)) {
  const started = performance.now();
  try {
    check();
    console.log(`ok      ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed.push(name);
    console.error(`FAILED  ${name}: ${(error as Error).message}`);
  }
}
console.log(`${Object.keys(checks).length - failed.length} passed, ${failed.length} failed`);
process.exitCode = failed.length > 0 ? 1 : 0;
