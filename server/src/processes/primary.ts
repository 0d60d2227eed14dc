/**
 * Several processes on one port. The primary has the embedded database, counts for rate limits and hands connections to the
 * members in turn (node:cluster); each member is a whole server. A member that ends is replaced; when one cannot even start,
 * everything ends.
 */
import cluster, { type Worker } from "node:cluster";
import type { ClientConfig } from "pg";
import type { Logger } from "pino";
import type { Config } from "../config/config.ts";
import { type OpenDatabase, openDatabase } from "../db/open.ts";
import { prepareDemo } from "../demo.ts";
import { openKeyRing } from "../keyring.ts";
import { createLocalWindows } from "../rpc/rate-windows.ts";
import type { Running } from "../running.ts";
import type { FromMember, SharedDatabase, ToMember } from "./messages.ts";

/** Pause before a member is replaced, so that one that fails at once does not take the machine. */
const replaceAfterMs = 500;
/** Connections of the embedded database that are shared out; the rest is for listening, migrations and tools. */
const sharedConnections = 70;

/** What is sent to members that are not there any more is lost. */
function tell(member: Worker, message: ToMember): void {
  if (member.isConnected()) member.send(message, () => {});
}

export async function startPrimary(config: Config, logger: Logger): Promise<Running> {
  await using built = new AsyncDisposableStack();
  const windows = createLocalWindows({ maxNames: config.countedCallers });
  const database = config.databaseUrl === undefined ? await openShared(config, logger) : undefined;
  if (database) {
    built.defer(database.close);
    // Made before the members look for it, which would each make another.
    openKeyRing(config);
  }
  const failed = Promise.withResolvers<string>();
  const members = new Map<Worker, { ready: boolean }>();
  const serving = Promise.withResolvers<void>();
  let prepared: Promise<Awaited<ReturnType<typeof prepareDemo>>> | undefined;
  let url = "";
  let ending: "drain" | "destroy" | undefined;

  const start: ToMember = {
    kind: "start",
    ...(database && { database: urlsOf(database) }),
    databaseConnections: database
      ? Math.max(4, Math.min(config.databaseConnections, Math.floor(sharedConnections / config.processes)))
      : config.databaseConnections,
  };
  const obey = async (member: Worker, message: FromMember): Promise<void> => {
    switch (message.kind) {
      case "hello":
        tell(member, ending ? { kind: ending } : start);
        break;
      case "listening":
        url = message.url;
        prepared ??= database
          ? prepareDemo({ config, db: database.db, findPublicTenant: async () => {} }, url)
          : Promise.resolve(undefined);
        await prepared;
        tell(member, { kind: "serve" });
        break;
      case "serving":
        members.set(member, { ready: true });
        if ([...members.values()].filter(({ ready }) => ready).length === config.processes) serving.resolve();
        break;
      case "failed":
        failed.resolve(message.reason);
        serving.reject(new Error(message.reason));
        break;
      case "count":
        tell(member, { kind: "counted", id: message.id, count: await windows.count(message.name) });
        break;
    }
  };
  const fork = (): void => {
    const member = cluster.fork();
    const closeUntaken = followHandover(member);
    members.set(member, { ready: false });
    member.on("message", (message: FromMember) => {
      obey(member, message).catch((err: unknown) => {
        logger.fatal({ err }, "the processes cannot be led");
        failed.resolve(String(err));
        serving.reject(err);
      });
    });
    member.on("exit", (code, signal) => {
      members.delete(member);
      closeUntaken();
      if (ending) return;
      logger.error({ process: member.id, code, signal }, "a process has ended; it is replaced");
      setTimeout(() => {
        if (!ending) fork();
      }, replaceAfterMs);
    });
  };
  const endAll = async (kind: "drain" | "destroy"): Promise<void> => {
    ending = kind;
    await Promise.all(
      [...members.keys()].map((member) => {
        const ended = new Promise((resolve) => member.once("exit", resolve));
        tell(member, { kind });
        return ended;
      }),
    );
  };
  built.defer(() => endAll("destroy"));

  serving.promise.catch(() => {});
  for (let count = 0; count < config.processes; count++) fork();
  await serving.promise;
  void database?.embedded?.exited.then(() => failed.resolve("the embedded database has ended"));
  const resources = built.move();
  return {
    url,
    demo: await prepared,
    dataDir: database?.embedded?.dataDir,
    failed: failed.promise,
    async drain() {
      await endAll("drain");
      await resources.disposeAsync();
    },
    destroy: () => resources.disposeAsync(),
  };
}

/** A connection as the cluster hands it over. */
interface Handle {
  close(): void;
}

/**
 * Follows the connections that are given to a member, one after the other, and returns what closes the last one where the member
 * has not taken it: Node forgets it when the member dies before it has said so, and its client would wait for ever. (Node tells
 * nobody of its messages of this kind, so `send` is watched. What was taken is closed on this side already.)
 */
function followHandover(member: Worker): () => void {
  let last: Handle | undefined;
  const child = member.process;
  const send = child.send.bind(child) as (...args: unknown[]) => boolean;
  child.send = (...args: unknown[]) => {
    const [message, handle] = args as [{ act?: string } | undefined, Handle | undefined];
    if (message?.act === "newconn") last = handle;
    return send(...args);
  };
  return () => last?.close();
}

function openShared(config: Config, logger: Logger): Promise<OpenDatabase> {
  return openDatabase({ logger, dataDir: config.dataDir, limits: { maxConnections: 2 } });
}

function urlsOf({ embedded }: OpenDatabase): SharedDatabase | never {
  if (!embedded) throw new Error("an outside database needs no sharing");
  return { app: urlOf(embedded.connection("app")), owner: urlOf(embedded.connection("owner")) };
}

function urlOf({ user, host = "", port, database }: ClientConfig): string {
  return `postgres://${user}@${encodeURIComponent(host)}:${port}/${database}`;
}
