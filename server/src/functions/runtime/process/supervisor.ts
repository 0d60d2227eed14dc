/**
 * Runs one command and keeps what must survive the server: its output with times, and how it ended. A process of its own,
 * started by the `process` runtime with the unit's folder as its argument; the command stands in `unit.json` there.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from "node:fs";
import { constants } from "node:os";
import { join } from "node:path";
import { maxLineBytes, stopGraceSeconds } from "../runtime.ts";

const folder = process.argv[2] ?? "";
const { command, env } = JSON.parse(readFileSync(join(folder, "unit.json"), "utf8"));
const log = openSync(join(folder, "log"), "a");

function write(name: string, content: object): void {
  // Renamed into place: nobody reads half a file.
  writeFileSync(join(folder, `${name}.new`), JSON.stringify(content));
  renameSync(join(folder, `${name}.new`), join(folder, name));
}

function finish(exitCode: number, reason: string): void {
  closeSync(log);
  write("end.json", { exitCode, reason, endedAt: new Date().toISOString() });
}

function capture(stream: 1 | 2, source: NodeJS.ReadableStream): void {
  let pending: Buffer = Buffer.alloc(0);
  const emit = (line: Buffer, continues: boolean) => {
    const nanos = BigInt(Date.now()) * 1_000_000n;
    writeSync(log, `${JSON.stringify([String(nanos), stream, line.toString(), continues ? 1 : 0])}\n`);
  };
  source.on("data", (chunk: Buffer) => {
    let rest = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    for (;;) {
      const end = rest.indexOf(0x0a);
      if (end >= 0 && end <= maxLineBytes) {
        emit(rest.subarray(0, end), false);
        rest = rest.subarray(end + 1);
      } else if (rest.length > maxLineBytes) {
        emit(rest.subarray(0, maxLineBytes), true);
        rest = rest.subarray(maxLineBytes);
      } else break;
    }
    pending = rest;
  });
  source.on("end", () => {
    if (pending.length > 0) emit(pending, false);
  });
}

const [file = "", ...args] = command;
const child = spawn(file, args, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
write("started.json", { pid: process.pid, group: child.pid, startedAt: new Date().toISOString() });
capture(1, child.stdout);
capture(2, child.stderr);
child.once("error", (error) => finish(127, `the command cannot be started: ${error.message}`));
child.once("close", (code, signal) => {
  const exitCode = code ?? 128 + (signal ? constants.signals[signal] : 0);
  finish(exitCode, exitCode === 0 ? "" : `the process ended with exit code ${exitCode}`);
});
process.on("SIGTERM", () => {
  if (child.pid === undefined) return;
  // The whole group: what the command started ends with it.
  process.kill(-child.pid, "SIGTERM");
  setTimeout(() => process.kill(-(child.pid ?? 0), "SIGKILL"), stopGraceSeconds * 1000).unref();
});
