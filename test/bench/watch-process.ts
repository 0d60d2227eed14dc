import { fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { endWithThisProcess } from "../helpers/server-process.ts";
import type { WatchAnswer, WatchCommand, WatchRound } from "./watch-load.ts";

/** Runs watchers in a process of their own. `opened` is called when all are connected, before anything is reported. */
export async function runWatchers(
  command: WatchCommand,
  opened: () => Promise<void> | void,
): Promise<WatchRound> {
  const child = fork(path.join(import.meta.dirname, "watch-load.ts"), { execArgv: [] });
  endWithThisProcess(child);
  const ended = once(child, "exit").then(() => {
    throw new Error("the watchers' process ended");
  });
  ended.catch(() => {});
  const answer = async () => {
    const [message] = (await Promise.race([once(child, "message"), ended])) as [WatchAnswer];
    if ("error" in message) throw new Error(message.error);
    return message;
  };
  try {
    child.send(command);
    await answer();
    await opened();
    child.send("go");
    const message = await answer();
    if (!("round" in message)) throw new Error("the watchers are confused");
    return message.round;
  } finally {
    child.kill();
    await ended.catch(() => {});
  }
}
