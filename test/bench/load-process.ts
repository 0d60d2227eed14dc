import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { endWithThisProcess } from "../helpers/server-process.ts";
import type { LoadAnswer, LoadCommand } from "./load.ts";
import type { Round } from "./workload.ts";

/** The load generator, in a process of its own. */
export interface LoadProcess extends AsyncDisposable {
  /** Runs one command. `before` is called when everything is open, `after` when the last answer has come. */
  run(command: LoadCommand, before?: () => void | Promise<void>, after?: () => void): Promise<Round>;
}

export function startLoadProcess(): LoadProcess {
  const child = fork(path.join(import.meta.dirname, "load.ts"), { execArgv: [] });
  endWithThisProcess(child);
  return {
    async run(command, before, after) {
      child.send(command);
      const opened = await nextAnswer(child);
      if (!("ready" in opened)) throw unexpected(opened);
      await before?.();
      child.send("go");
      const answer = await nextAnswer(child);
      if (!("round" in answer)) throw unexpected(answer);
      after?.();
      return answer.round;
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const exited = once(child, "exit");
      child.kill();
      await exited;
    },
  };
}

async function nextAnswer(child: ChildProcess): Promise<LoadAnswer> {
  const over = new AbortController();
  const ended = once(child, "exit", { signal: over.signal }).then(() => {
    throw new Error("the load process ended");
  });
  ended.catch(() => {});
  try {
    const [answer] = await Promise.race([once(child, "message", { signal: over.signal }), ended]);
    return answer as LoadAnswer;
  } finally {
    over.abort();
  }
}

const unexpected = (answer: LoadAnswer) =>
  new Error("error" in answer ? answer.error : "the load process is confused");
