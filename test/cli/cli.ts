import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestServer } from "../helpers/server.ts";
import { endWithThisProcess } from "../helpers/server-process.ts";

/** As run.ts built it. */
export const main = path.resolve(import.meta.dirname, "../../cli/dist/main.js");

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What it printed as NDJSON. */
  readonly json: Record<string, unknown>[];
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  /** What it printed so far. */
  stdout(): string;
  stderr(): string;
  /** Waits until it has printed this. */
  until(text: string | RegExp): Promise<void>;
}

/** The command line of one person: a home of its own. */
export interface Person extends AsyncDisposable {
  readonly home: string;
  readonly env: Record<string, string>;
  start(args: readonly string[], options?: StartOptions): Running;
  run(args: readonly string[], options?: StartOptions): Promise<Ended>;
  /** Writes a file into the home and gives its path. */
  file(name: string, text: string): Promise<string>;
}

export interface StartOptions {
  readonly input?: string;
  /** Leaves standard input open. */
  readonly open?: boolean;
  readonly env?: Readonly<Record<string, string>>;
  /** In a terminal of its own, with `input` as what is typed once something has been asked. */
  readonly terminal?: boolean;
}

/** @param server where PULSEWIRE_ENDPOINT and PULSEWIRE_API_KEY are to point; none: nobody is signed in */
export async function createPerson(server?: TestServer): Promise<Person> {
  const home = await mkdtemp(path.join(tmpdir(), "pulsewire-cli-"));
  const env = {
    PATH: process.env.PATH ?? "",
    HOME: home,
    ...(server && { PULSEWIRE_ENDPOINT: server.url, PULSEWIRE_API_KEY: server.tenant.apiKey }),
  };
  const start = (args: readonly string[], options: StartOptions = {}): Running => {
    const command = [process.execPath, main, ...args];
    const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    const [file = "", ...rest] = options.terminal ? ["script", "-qefc", quoted, "/dev/null"] : command;
    const child = spawn(file, rest, { cwd: home, env: { ...env, TERM: "xterm", ...options.env } });
    endWithThisProcess(child);
    return watch(child, options);
  };
  return {
    home,
    env,
    start,
    run: (args, options) => start(args, options).ended,
    async file(name, text) {
      const file = path.join(home, name);
      await writeFile(file, text);
      return file;
    },
    [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }),
  };
}

function watch(child: ChildProcess, { input, open }: StartOptions): Running {
  let stdout = "";
  let stderr = "";
  const listeners = new Set<() => void>();
  const told = () => {
    for (const listener of listeners) listener();
  };
  child.stdout?.setEncoding("utf8").on("data", (text) => {
    stdout += text;
    told();
  });
  child.stderr?.setEncoding("utf8").on("data", (text) => {
    stderr += text;
    told();
  });
  // Who ends early does not read all.
  child.stdin?.on("error", () => {});
  if (!open) child.stdin?.end(input ?? "");
  else if (input) child.stdin?.write(input);
  const ended = once(child, "close").then(([code]) => {
    told();
    const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
    return { code, stdout, stderr, json: lines.map((line) => JSON.parse(line)) };
  });
  return {
    child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    until: (text) =>
      new Promise((resolve, reject) => {
        const found = () => (typeof text === "string" ? stdout.includes(text) : text.test(stdout));
        const look = () => {
          if (found()) resolve();
          else if (child.exitCode !== null)
            reject(new Error(`it ended without ${text}:\n${stdout}${stderr}`));
          else return;
          listeners.delete(look);
        };
        listeners.add(look);
        setTimeout(() => reject(new Error(`it did not print ${text}:\n${stdout}${stderr}`)), 20_000).unref();
        look();
      }),
  };
}
