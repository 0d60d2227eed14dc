import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { exitCodes, Failure } from "./failure.ts";
import { type Io, write } from "./io.ts";

/** Asks on the terminal; what is typed is shown. */
export async function ask(io: Io, question: string): Promise<string> {
  const lines = createInterface({ input: io.stdin, output: io.stderr, terminal: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once("close", () => reject(new Failure("Nothing was answered.", exitCodes.interrupted)));
      lines.once("SIGINT", () => lines.close());
      lines.question(question, resolve);
    });
  } finally {
    lines.removeAllListeners("close");
    lines.close();
  }
}

/** Asks for a secret: what is typed is not shown. */
export async function askSecret(io: Io, question: string): Promise<string> {
  await write(io.stderr, question);
  io.stdin.setRawMode?.(true);
  io.stdin.resume();
  try {
    return await readSecret(io);
  } finally {
    io.stdin.setRawMode?.(false);
    io.stdin.pause();
    await write(io.stderr, "\n");
  }
}

function readSecret(io: Io): Promise<string> {
  return new Promise((resolve, reject) => {
    let typed = "";
    const onData = (chunk: Buffer | string) => {
      for (const character of String(chunk)) {
        if (character === "\r" || character === "\n") return end(() => resolve(typed));
        if (character === "\u0003" || character === "\u0004")
          return end(() => reject(new Failure("Nothing was answered.", exitCodes.interrupted)));
        typed = character === "\u007f" || character === "\b" ? typed.slice(0, -1) : typed + character;
      }
    };
    const end = (settle: () => void) => {
      io.stdin.off("data", onData);
      settle();
    };
    io.stdin.on("data", onData);
  });
}

/** All lines of standard input, for secrets that come through a pipe. */
export async function readLines(io: Io): Promise<string[]> {
  return (await text(io.stdin)).split(/\r?\n/).filter((line) => line !== "");
}
