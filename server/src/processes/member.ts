/** One of several processes: a whole server that is led by the primary. */
import cluster, { type Worker } from "node:cluster";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { createContext } from "../context.ts";
import { createServer, type Server } from "../server.ts";
import type { FromMember, ToMember } from "./messages.ts";
import { createSharedWindows } from "./shared-windows.ts";

/** Runs until it is to drain or the primary has gone; settles when the process may end. */
export async function runMember(
  config: Config,
  logger: Logger,
  explain: (error: unknown) => string,
  drained: AbortSignal,
): Promise<void> {
  const self = cluster.worker as Worker;
  const say = (message: FromMember) => void self.send(message);
  const windows = createSharedWindows((id, name) => say({ kind: "count", id, name }), {
    maxNames: config.countedCallers,
  });
  const begin = Promise.withResolvers<ToMember & { kind: "start" }>();
  const serve = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  let server: Server | undefined;
  let draining = false;
  const end = (how: "drain" | "destroy") => {
    if (how === "drain" && draining) return;
    draining = true;
    // Before there is anything to end, the process just ends.
    if (server) server[how]().then(over.resolve, over.reject);
    else over.resolve();
  };
  self.on("message", (message: ToMember) => {
    if (message.kind === "start") begin.resolve(message);
    else if (message.kind === "counted") windows.receive(message.id, message.count);
    else if (message.kind === "serve") serve.resolve();
    else if (message.kind === "drain" || message.kind === "destroy") end(message.kind);
  });
  drained.addEventListener("abort", () => end("drain"));
  // Nobody leads any more, and with the primary the embedded database is gone.
  self.on("disconnect", () => end("destroy"));

  const run = async (): Promise<void> => {
    const start = await begin.promise;
    const { databaseConnections } = start;
    const context = await createContext({ ...config, databaseConnections }, logger, {
      database: start.database,
      rateWindows: windows,
    });
    server = createServer(context);
    await server.start(async ({ url }) => {
      say({ kind: "listening", url });
      await serve.promise;
      await context.findPublicTenant();
    });
    say({ kind: "serving" });
    await over.promise;
  };
  say({ kind: "hello" });
  try {
    await Promise.race([run(), over.promise]);
  } catch (error) {
    await new Promise((resolve) => self.send({ kind: "failed", reason: explain(error) }, resolve));
  }
}
