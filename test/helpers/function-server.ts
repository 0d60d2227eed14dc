import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createClient } from "@connectrpc/connect";
import type { Settings } from "../../server/src/config/setting-names.ts";
import { FunctionsService } from "../../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { grpcSession, startTestServer, type TestServer } from "./server.ts";

/** All servers on one database need the same. */
export const keyEncryption: Settings = {
  PULSEWIRE_KEY_ENCRYPTION_KEY: Buffer.alloc(32, 7).toString("base64"),
};

/** Functions as processes of this machine. */
export const processRuntime: Settings = { PULSEWIRE_FUNCTIONS_RUNTIME: "process" };

/**
 * The whole server with a data folder of its own, for functions. What the first tenant's functions run ends with it: processes
 * outlive the server that started them, as containers do.
 */
export async function startFunctionServer(settings: Settings = processRuntime): Promise<TestServer> {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-functions-"));
  const server = await startTestServer({ PULSEWIRE_DATA_DIR: folder, ...keyEncryption, ...settings });
  const stop = async () => {
    if (server.context.config.functions.runtime) await deleteFunctions(server);
    await server.stop();
    await rm(folder, { recursive: true, force: true });
  };
  return { ...server, stop, [Symbol.asyncDispose]: stop };
}

/** Deletes all functions, and waits until nothing of them runs: then their logs have an end. */
async function deleteFunctions({ url, tenant }: TestServer): Promise<void> {
  using session = grpcSession(url, { "x-api-key": tenant.apiKey });
  const fns = createClient(FunctionsService, session.transport);
  const { functions } = await fns.listFunctions({});
  for (const { name } of functions) await fns.deleteFunction({ name });
  for (const { name } of functions) for await (const _ of fns.streamLogs({ name, follow: true, tail: 0 }));
}
