/** Lines of one container as they are stored: a line each, compressed. */
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import type { RawLine } from "../runtime/runtime.ts";

/** `time stream text`; the stream is 3 or 4 where the line goes on in the next one. */
export function encodeLines(lines: readonly RawLine[]): Buffer {
  let text = "";
  for (const line of lines) {
    const stream = line.continues ? line.stream + 2 : line.stream;
    text += `${line.time} ${stream} ${line.text}\n`;
  }
  return zstdCompressSync(text);
}

export function decodeLines(stored: Buffer): RawLine[] {
  const lines = zstdDecompressSync(stored).toString().split("\n");
  lines.pop();
  return lines.map((line) => {
    const end = line.indexOf(" ");
    const stream = Number(line[end + 1]);
    return {
      time: line.slice(0, end),
      stream: stream === 2 || stream === 4 ? 2 : 1,
      text: line.slice(end + 3),
      continues: stream > 2,
    };
  });
}

/** Nanoseconds in decimal as a time of the database and of JavaScript. */
export function dateOf(nanos: string): Date {
  return new Date(Number(nanos.slice(0, -6)));
}
