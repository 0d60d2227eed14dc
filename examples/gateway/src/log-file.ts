import { accessSync, constants, readdirSync, statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { Failure } from "./failure.ts";

/** Logs that stay as they are between two runs stand first: sent again, every line of them is known. */
const steadyLogs = ["dpkg.log", "install.log", "cloud-init.log", "bootstrap.log", "alternatives.log"];
const busyLogs = ["syslog", "messages", "system.log"];

/** Checks the file that was asked for. */
export function checkFile(file: string): string {
  try {
    if (!statSync(file).isFile()) throw new Failure(`${file} is no file.`);
    accessSync(file, constants.R_OK);
    return file;
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { code } = error as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "is not there" : code === "EACCES" ? "may not be read by you" : code;
    throw new Failure(`The file ${file} ${why}.`);
  }
}

/** Looks for a log on this machine; `undefined` where there is none to read. */
export function findLogFile(env: NodeJS.ProcessEnv): string | undefined {
  const logs = "/var/log";
  const npmLogs = path.join(env.npm_config_cache ?? path.join(os.homedir(), ".npm"), "_logs");
  return [
    ...steadyLogs.map((name) => path.join(logs, name)),
    ...largestFirst(logs),
    ...largestFirst(npmLogs),
    ...busyLogs.map((name) => path.join(logs, name)),
  ].find(isReadable);
}

/** The `.log` files of a folder. The largest log of npm is that of the installation, which is over. */
function largestFirst(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((name) => name.endsWith(".log") && !busyLogs.includes(name))
      .map((name) => path.join(folder, name))
      .filter(isReadable)
      .map((file) => ({ file, size: statSync(file).size }))
      .sort((a, b) => b.size - a.size)
      .map(({ file }) => file);
  } catch {
    return [];
  }
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    const stat = statSync(file);
    return stat.isFile() && stat.size > 0;
  } catch {
    return false;
  }
}
