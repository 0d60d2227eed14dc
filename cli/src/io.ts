import type { Readable, Writable } from "node:stream";

/** What a command sees of its process. */
export interface Io {
  readonly stdin: Readable & { isTTY?: boolean; setRawMode?(on: boolean): unknown };
  readonly stdout: Writable & { isTTY?: boolean; columns?: number };
  /** Messages, questions and bars; results go to stdout. */
  readonly stderr: Writable & { isTTY?: boolean; columns?: number };
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** Aborted by Ctrl-C and SIGTERM. */
  readonly signal: AbortSignal;
}

/** Writes, and waits while the reader is behind. */
export async function write(to: Writable, text: string): Promise<void> {
  if (to.write(text)) return;
  await new Promise((resolve) => to.once("drain", resolve));
}
