/** Functions of a server of their own, and what they come to. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { FunctionStatus } from "../../server/src/gen/pulsewire/functions/v1/function_pb.js";
import { FunctionsService } from "../../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { processRuntime, startFunctionServer } from "./function-server.ts";
import { withKey } from "./platform.ts";
import { grpcSession, type TestServer } from "./server.ts";

/** The command that runs a script. */
export const shell = (script: string) => ["/bin/sh", "-c", script];
/** One that says that it is up, and stays. */
export const forever = shell("echo up; while :; do sleep 0.1; done");

export type Fns = Client<typeof FunctionsService>;

/** Looks again and again until there is something to see. */
export async function until<T>(what: string, look: () => Promise<T | false | undefined>): Promise<T> {
  for (const end = Date.now() + 30_000; ; ) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} did not happen`);
    await sleep(50);
  }
}

/** A server and a client of it. */
export interface FunctionsSetting extends AsyncDisposable {
  readonly server: TestServer;
  readonly fns: Fns;
}

/** Starts one that runs nothing, or processes. */
export async function openFunctions(runtime?: "process", settings = {}): Promise<FunctionsSetting> {
  const server = await startFunctionServer({ ...(runtime && processRuntime), ...settings });
  const session = grpcSession(server.url, withKey(server.tenant.apiKey).headers);
  return {
    server,
    fns: createClient(FunctionsService, session.transport),
    async [Symbol.asyncDispose]() {
      session[Symbol.dispose]();
      await server.stop();
    },
  };
}

/** Waits until a function has come to a status. */
export const untilStatus = (fns: Fns, name: string, status: FunctionStatus) =>
  until(`${name} is ${FunctionStatus[status]}`, async () => {
    const { function: found } = await fns.getFunction({ name });
    return found?.status === status && found;
  });

/** The lines of a log, to its end. */
export async function linesOf(fns: Fns, request: Parameters<Fns["streamLogs"]>[0]): Promise<string[]> {
  const lines: string[] = [];
  for await (const message of fns.streamLogs(request)) lines.push(...message.lines.map(({ text }) => text));
  return lines;
}
