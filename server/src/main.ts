/** The process: settings, signals, exit codes. No other file touches `process`, but for what is passed on from here. */
import { pino } from "pino";
import { envToConfig, readEnv } from "./config.ts";
import { createContext } from "./context.ts";
import { writeServerFile } from "./db/embedded.ts";
import { type DemoCredentials, prepareDemo } from "./demo.ts";
import { greeting } from "./greeting.ts";
import { createServer } from "./server.ts";

const startedAt = performance.now();

async function main(): Promise<void> {
  const config = envToConfig(readEnv(process.env));
  const logger = pino({ level: config.logLevel, base: null }, pino.destination({ dest: 2, sync: false }));
  const context = await createContext(config, logger);
  const server = createServer(context);

  let draining: Promise<void> | undefined;
  const stop = (signal: NodeJS.Signals) => {
    if (draining) {
      logger.warn({ signal }, "second signal: closing at once");
      void server.destroy().finally(() => process.exit(1));
      return;
    }
    logger.info({ signal }, "draining");
    draining = server.drain().then(
      () => process.exit(0),
      (err: unknown) => {
        logger.fatal({ err }, "drain failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  void context.embedded?.exited.then((exit) => {
    if (draining) return;
    logger.fatal({ exit }, "the embedded database has ended; stopping");
    void server.destroy().finally(() => process.exit(1));
  });

  try {
    const { embedded } = context;
    let demo: DemoCredentials | undefined;
    const { url } = await server.start(async (address) => {
      if (!embedded) return;
      demo = await prepareDemo(context, address.url);
      writeServerFile(embedded.dataDir, { pid: process.pid, endpoint: address.url });
    });
    logger.info({ url, startedInMs: Math.round(performance.now() - startedAt) }, "serving");
    if (embedded) process.stdout.write(`\n${greeting(url, embedded.dataDir, demo)}\n`);
  } catch (error) {
    await server.destroy();
    throw error;
  }
}

/** What a person can act on is said in a sentence; what looks like our own mistake, with its stack. */
function explain(error: unknown): string {
  const { code, address, port, message, stack } = error as NodeJS.ErrnoException & {
    address?: string;
    port?: number;
  };
  if (code === "EADDRINUSE")
    return `${address}:${port} is in use; set PORT to another number, or 0 for a free one`;
  if (code === "EACCES" && port !== undefined)
    return `no permission to listen on port ${port}; set PORT above 1023`;
  if (code === "ECONNREFUSED" || code === "ENOTFOUND")
    return `DATABASE_URL: the database cannot be reached (${message})`;
  const ours = error instanceof TypeError || error instanceof ReferenceError || !(error instanceof Error);
  return ours ? (stack ?? String(error)) : message;
}

main().catch((error: unknown) => {
  process.stderr.write(`pulsewire: ${explain(error)}\n`);
  process.exit(1);
});
