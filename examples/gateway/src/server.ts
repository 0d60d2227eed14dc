import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Failure } from "./failure.ts";

/** A server to talk to. */
export interface Server extends AsyncDisposable {
  endpoint: string;
  apiKey: string;
  /** True where it was started for the demo and ends with it. */
  own: boolean;
}

const root = path.join(import.meta.dirname, "../../..");

/** The first start makes a database cluster, which can take a while on a slow disk. */
const startTimeoutMs = 120_000;

/** Finds the server that the environment names, or one that runs here, or starts one. */
export async function findServer(env: NodeJS.ProcessEnv): Promise<Server> {
  const { PULSEWIRE_ENDPOINT: endpoint, PULSEWIRE_API_KEY: apiKey } = env;
  if (endpoint || apiKey) {
    if (!endpoint || !apiKey)
      throw new Failure("Set both PULSEWIRE_ENDPOINT and PULSEWIRE_API_KEY, or neither.");
    if (!URL.canParse(endpoint)) {
      throw new Failure(
        `PULSEWIRE_ENDPOINT is "${endpoint}", which is no address such as http://localhost:8080.`,
      );
    }
    if (!(await isReady(endpoint))) {
      throw new Failure(`No Pulsewire server answers at ${endpoint}, which PULSEWIRE_ENDPOINT names.`);
    }
    return { endpoint, apiKey, own: false, [Symbol.asyncDispose]: async () => {} };
  }
  const credentialsFile = path.join(env.PULSEWIRE_DATA_DIR ?? ".pulsewire", "demo.json");
  const known = readCredentials(credentialsFile);
  if (known && (await isReady(known.endpoint))) {
    return { ...known, own: false, [Symbol.asyncDispose]: async () => {} };
  }
  if (env.DATABASE_URL) {
    throw new Failure(
      "With DATABASE_URL there is no demo tenant: set PULSEWIRE_ENDPOINT and PULSEWIRE_API_KEY to a server and a key of yours.",
    );
  }
  return startServer(env, credentialsFile);
}

async function startServer(env: NodeJS.ProcessEnv, credentialsFile: string): Promise<Server> {
  const logFile = path.join(mkdtempSync(path.join(os.tmpdir(), "pulsewire-demo-")), "server.log");
  const log = openSync(logFile, "a", 0o600);
  // Any free port, so that nothing that runs here is in the way.
  const child = spawn(process.execPath, [path.join(root, "server/src/main.ts")], {
    stdio: ["ignore", log, log],
    env: { ...env, PORT: env.PORT ?? "0" },
  });
  closeSync(log);
  const kill = () => child.kill("SIGTERM");
  process.once("exit", kill);
  const stop = async () => {
    process.off("exit", kill);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    kill();
    await ended;
  };
  try {
    const endpoint = await waitForEndpoint(logFile, () => child.exitCode !== null);
    const credentials = readCredentials(credentialsFile);
    if (!credentials || credentials.endpoint !== endpoint) {
      throw new Failure(
        `The server has no credentials for the demo in ${credentialsFile}; set PULSEWIRE_ENDPOINT and PULSEWIRE_API_KEY to one that is yours.`,
      );
    }
    return { ...credentials, own: true, [Symbol.asyncDispose]: stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The address that the server prints once its demo tenant is there, which is a little after it is ready. */
async function waitForEndpoint(logFile: string, ended: () => boolean): Promise<string> {
  const deadline = Date.now() + startTimeoutMs;
  while (Date.now() < deadline) {
    const over = ended();
    const output = readFileSync(logFile, "utf8");
    const endpoint = /^Pulsewire serves .* on (\S+)$/m.exec(output)?.[1];
    if (endpoint && (await isReady(endpoint))) return endpoint;
    if (over) {
      const sentence = /^pulsewire: (.*)$/m.exec(output)?.[1] ?? `see ${logFile}`;
      throw new Failure(`The server did not start: ${sentence}`);
    }
    await sleep(50);
  }
  throw new Failure(`The server was not ready within ${startTimeoutMs / 1000} seconds; see ${logFile}`);
}

async function isReady(endpoint: string): Promise<boolean> {
  try {
    const { status } = await fetch(new URL("readyz", `${endpoint.replace(/\/*$/, "")}/`), {
      signal: AbortSignal.timeout(3_000),
    });
    return status === 200;
  } catch {
    return false;
  }
}

function readCredentials(file: string): { endpoint: string; apiKey: string } | undefined {
  try {
    const { endpoint, apiKey } = JSON.parse(readFileSync(file, "utf8"));
    return typeof endpoint === "string" && typeof apiKey === "string" ? { endpoint, apiKey } : undefined;
  } catch {
    return undefined;
  }
}
