import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import type { Settings } from "../../server/src/config.ts";

const main = path.join(import.meta.dirname, "../../server/src/main.ts");

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The real server in a process of its own. */
export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Sends SIGTERM and waits for the end. */
  terminate(): Promise<ProcessEnd>;
}

/** Starts `main.ts` with these settings alone and waits until it serves. Rejects with what it said when it ends. */
export async function startServerProcess(settings: Settings): Promise<ServerProcess> {
  const child = spawn(process.execPath, [main], {
    env: { PATH: process.env.PATH, HOST: "127.0.0.1", PORT: "0", ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once("close", (code, signal) => resolve({ code, signal }));
  });
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      err += chunk;
      const found = /"url":"([^"]+)"/.exec(err)?.[1];
      if (found) resolve(found);
    });
    void ended.then(({ code }) => reject(new Error(err || `ended with ${code} and said nothing`)));
  });
  // The greeting follows the log line once the demo tenant is there.
  if (!settings.DATABASE_URL)
    while (!out.includes("npm run demo")) await new Promise((done) => setTimeout(done, 10));
  const terminate = () => {
    child.kill("SIGTERM");
    return ended;
  };
  return {
    url,
    pid: child.pid ?? -1,
    child,
    stdout: () => out,
    stderr: () => err,
    terminate,
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) await terminate();
    },
  };
}
