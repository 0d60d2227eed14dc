import { type ExecFileOptions, execFile } from "node:child_process";
import { mkdir, readdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "../..");

/** What npm must not hear of the npm that runs the tests; whom it trusts is the machine's own affair. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => name === "NODE_EXTRA_CA_CERTS" || !/^(npm_|NODE_|PULSEWIRE_|INIT_CWD)/.test(name),
  ),
);

/** Runs npm in a folder and gives what it printed. */
export async function npm(args: readonly string[], options: ExecFileOptions = {}): Promise<string> {
  const { stdout } = await run("npm", [...args, "--no-audit", "--no-fund"], {
    env,
    maxBuffer: 64 * 1024 * 1024,
    ...options,
    encoding: "utf8",
  });
  return stdout;
}

/** Builds and packs a workspace as publishing would, into a folder of its own below this one; the tarball's path. */
export async function pack(workspace: "sdk" | "cli", folder: string): Promise<string> {
  const destination = path.join(folder, `packed-${workspace}`);
  await mkdir(destination, { recursive: true });
  await npm(["pack", "--workspace", workspace, "--pack-destination", destination], { cwd: root });
  const [tarball = ""] = await readdir(destination);
  return path.join(destination, tarball);
}

/**
 * Unpacks a tarball as a package of a project; its dependencies are found where the project is asked to look for them.
 *
 * @returns the package's folder
 */
export async function unpack(tarball: string, project: string, name: string): Promise<string> {
  const folder = path.join(project, "node_modules", name);
  await mkdir(folder, { recursive: true });
  await run("tar", ["-xzf", tarball, "-C", folder, "--strip-components=1"]);
  return folder;
}
