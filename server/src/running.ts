import type { Logger } from "pino";
import type { Config } from "./config/config.ts";
import { createContext } from "./context.ts";
import { type DemoCredentials, prepareDemo } from "./demo.ts";
import { createServer } from "./server.ts";

/** A server that serves, in one process or in several. */
export interface Running {
  readonly url: string;
  /** Where its embedded database lies. */
  readonly dataDir: string | undefined;
  readonly demo: DemoCredentials | undefined;
  /** Settles, with the reason, when it cannot go on. */
  readonly failed: Promise<string>;
  drain(): Promise<void>;
  /** Closes everything at once. */
  destroy(): Promise<void>;
}

/** Everything in this process. */
export async function startAlone(config: Config, logger: Logger): Promise<Running> {
  const context = await createContext(config, logger);
  const server = createServer(context);
  const { embedded } = context;
  try {
    let demo: DemoCredentials | undefined;
    const { url } = await server.start(async (address) => {
      if (embedded) demo = await prepareDemo(context, address.url);
    });
    const failed = new Promise<string>((resolve) => {
      void embedded?.exited.then((exit) =>
        resolve(`the embedded database has ended: ${JSON.stringify(exit)}`),
      );
    });
    return { url, demo, dataDir: embedded?.dataDir, failed, drain: server.drain, destroy: server.destroy };
  } catch (error) {
    await server.destroy();
    throw error;
  }
}
