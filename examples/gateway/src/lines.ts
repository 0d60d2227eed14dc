import { createReadStream, readdirSync, statSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";

/** A line and where it stands. */
export interface Line {
  /** From 1. */
  number: number;
  text: string;
}

/** The lines of a file that are not empty, up to a number of them. */
export async function* readLines(file: string, most: number): AsyncGenerator<Line> {
  const input = createReadStream(file, "utf8");
  let [number, given] = [0, 0];
  try {
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (text.trim() === "") continue;
      yield { number, text };
      if (++given >= most) return;
    }
  } finally {
    input.destroy();
  }
}

/** The files of a folder as NDJSON: what is sent where no log can be read. Each file changes its line only. */
export function* listFolder(folder: string, most: number): Generator<Line> {
  const left = [folder];
  let number = 0;
  for (let current = left.shift(); current !== undefined; current = left.shift()) {
    for (const entry of readdirSync(current, { withFileTypes: true })) {
      if (entry.name.startsWith(".") || entry.name === "node_modules") continue;
      const full = path.join(current, entry.name);
      if (entry.isDirectory()) left.push(full);
      if (!entry.isFile()) continue;
      const { size, mtimeMs } = statSync(full);
      const text = JSON.stringify({
        event_type: `file${path.extname(entry.name)}`,
        timestamp: Math.trunc(mtimeMs),
        path: path.relative(folder, full),
        size,
      });
      yield { number: ++number, text };
      if (number >= most) return;
    }
  }
}
