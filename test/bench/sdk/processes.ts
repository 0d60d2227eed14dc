import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { endWithThisProcess } from "../../helpers/server-process.ts";
import type { SinkCommand, SinkCounts, SinkReady } from "./sink.ts";
import type { TaskCommand, TaskResult } from "./task.ts";

/** The sink in its own process. */
export interface SinkProcess extends SinkReady, AsyncDisposable {
  tell(command: SinkCommand): Promise<SinkCounts>;
}

export async function startSink(): Promise<SinkProcess> {
  const child = start("sink.ts", []);
  const ready = await next<SinkReady>(child);
  return {
    ...ready,
    tell(command) {
      child.send(command);
      return next<SinkCounts>(child);
    },
    [Symbol.asyncDispose]: () => end(child),
  };
}

/** A program that uses one library, in a process of its own. */
export interface TaskProcess extends AsyncDisposable {
  readonly child: ChildProcess;
  /** The next thing it reports. */
  next(): Promise<TaskResult>;
}

export function startTask(command: TaskCommand): TaskProcess {
  const child = start("task.ts", ["--conditions=pulsewire-source", "--expose-gc"]);
  child.send(command);
  return { child, next: () => next<TaskResult>(child), [Symbol.asyncDispose]: () => end(child) };
}

/** Runs a task that reports once. */
export async function runTask(command: TaskCommand): Promise<TaskResult> {
  await using task = startTask(command);
  return await task.next();
}

function start(file: string, execArgv: string[]): ChildProcess {
  const child = fork(path.join(import.meta.dirname, file), {
    execArgv,
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  endWithThisProcess(child);
  errors.set(child, []);
  child.stderr?.on("data", (text) => errors.get(child)?.push(String(text)));
  return child;
}

const errors = new WeakMap<ChildProcess, string[]>();
const said = (child: ChildProcess) => (errors.get(child) ?? []).join("").slice(-2000);

async function next<T>(child: ChildProcess): Promise<T> {
  const over = new AbortController();
  const ended = once(child, "close", { signal: over.signal }).then(() => {
    throw new Error(`a process of the bench ended: ${said(child)}`);
  });
  ended.catch(() => {});
  try {
    const [message] = await Promise.race([once(child, "message", { signal: over.signal }), ended]);
    return message as T;
  } finally {
    over.abort();
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}
