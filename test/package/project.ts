/** An empty project with the packed SDK installed from its tarball, and the Node versions to run it with. */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { npm, pack } from "../helpers/pack.ts";

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "../..");

/** Every Node that is maintained, besides the one that runs the tests. */
const otherVersions = ["22", "24"];

export interface Project extends AsyncDisposable {
  readonly folder: string;
  readonly tarballs: { readonly sdk: string; readonly cli: string };
  /** Executables by major version. */
  readonly nodes: ReadonlyMap<string, string>;
  /** Writes a file and gives its path. */
  write(name: string, text: string): Promise<string>;
  /** Runs a file of the project; rejects with what it said where it fails. */
  run(file: string, version?: string, settings?: Record<string, string>): Promise<string>;
  /** Checks types, and writes JavaScript beside the sources, with the project's own packages only. */
  compile(files: readonly string[]): Promise<void>;
}

export async function createProject(): Promise<Project> {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-package-"));
  const remove = () => rm(folder, { recursive: true, force: true });
  try {
    const sdk = await pack("sdk", folder);
    const cli = await pack("cli", folder);
    await writeFile(path.join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
    const platform = `${process.platform}-${process.arch}`;
    const nodes = otherVersions.map((version) => `node${version}@npm:${nodePackage(platform)}@${version}`);
    await npm(["install", "--ignore-scripts", sdk, cli, "@types/node@26", ...nodes], { cwd: folder });
    const executables = new Map([
      ...otherVersions.map(
        (version) => [version, path.join(folder, `node_modules/node${version}/bin/node`)] as const,
      ),
      [process.versions.node.split(".")[0] ?? "", process.execPath],
    ]);
    return {
      folder,
      tarballs: { sdk, cli },
      nodes: executables,
      async write(name, text) {
        const file = path.join(folder, name);
        await writeFile(file, text);
        return file;
      },
      async run(file, version, settings = {}) {
        const node = version === undefined ? process.execPath : (executables.get(version) ?? "");
        const env = { PATH: process.env.PATH, HOME: folder, ...settings };
        const { stdout } = await run(node, [file], { cwd: folder, env, timeout: 30_000 });
        return stdout;
      },
      async compile(files) {
        const options = [
          ...[
            "--module",
            "nodenext",
            "--target",
            "es2022",
            "--lib",
            "esnext,dom,dom.iterable,dom.asynciterable",
          ],
          ...["--strict", "--types", "node", "--noEmitOnError"],
        ];
        await run(path.join(root, "node_modules/.bin/tsc"), [...options, ...files], { cwd: folder }).catch(
          (error) => {
            throw new Error(`tsc:\n${error.stdout}`);
          },
        );
      },
      [Symbol.asyncDispose]: remove,
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** The packages that bring Node's executable have two kinds of names. */
function nodePackage(platform: string): string {
  return platform === "darwin-arm64" ? `node-bin-${platform}` : `node-${platform}`;
}
