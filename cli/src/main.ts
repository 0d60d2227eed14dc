#!/usr/bin/env node
/** The only file that touches the process. */
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { run } from "./run.ts";

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };
const interrupt = new AbortController();
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // The second one ends it at once.
  process.once(signal, () => interrupt.abort());
}
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  // Whoever reads has seen enough, as `head` does.
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), version, {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  home: homedir(),
  signal: interrupt.signal,
});
// A terminal that was asked something would keep it open.
process.stdin.unref?.();
