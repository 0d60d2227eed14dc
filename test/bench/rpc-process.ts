import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { endWithThisProcess } from "../helpers/server-process.ts";
import type { RpcServerReady } from "./rpc-server.ts";
import type { WatchAnswer, WatchCommand } from "./watchers.ts";

/** A server of the bench in its own process. */
export interface RpcServer extends RpcServerReady, AsyncDisposable {
  readonly pid: number;
  /** Lines of stderr. */
  readonly notices: readonly string[];
  ask(command: WatchCommand): Promise<WatchAnswer>;
  /** Waits until nobody watches any more. */
  untilAlone(): Promise<void>;
}

/** Starts one kind of server. */
export async function startRpcServer(kind: string, nodeOptions: readonly string[] = []): Promise<RpcServer> {
  const child = fork(path.join(import.meta.dirname, "rpc-server.ts"), [kind], {
    execArgv: [...nodeOptions],
    stdio: ["ignore", "inherit", "pipe", "ipc"],
  });
  endWithThisProcess(child);
  const notices: string[] = [];
  let said = "";
  child.stderr?.on("data", (text) => {
    said += text;
    notices.push(...String(text).split("\n"));
  });
  const ended = once(child, "exit").then(() => {
    throw new Error(`the server ${kind} ended: ${said}`);
  });
  ended.catch(() => {});
  const [ready] = (await Promise.race([once(child, "message"), ended])) as [RpcServerReady];
  const ask = async (command: WatchCommand): Promise<WatchAnswer> => {
    child.send(command);
    const [answer] = await Promise.race([once(child, "message"), ended]);
    return answer as WatchAnswer;
  };
  return {
    ...ready,
    ask,
    async untilAlone() {
      for (;;) {
        const answer = await ask({ kind: "memory" });
        if (answer.kind === "memory" && answer.watchers === 0) return;
        await sleep(20);
      }
    },
    pid: child.pid as number,
    notices,
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.disconnect();
      await exited;
    },
  };
}
