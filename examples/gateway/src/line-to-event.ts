import { createHash } from "node:crypto";
import path from "node:path";
import type { EventInput } from "@pulsewire/sdk";
import type { Line } from "./lines.ts";
import { parseLogLine } from "./log-line.ts";
import { fromRecord } from "./record.ts";

/**
 * Makes events of the lines of one file. The same line makes the same event in every run, so that the server knows
 * it again: its id is a hash of all that it says, with file and line, and a line without a time has that of the
 * line before.
 */
export class LineReader {
  readonly #file: string;
  readonly #program: string;
  #time: number;

  /** @param startTime what the first lines have where they name no time, in milliseconds since 1970 */
  constructor(file: string, startTime: number) {
    this.#file = file;
    this.#program = programOf(file);
    this.#time = startTime;
  }

  /** The event of a line. */
  toEvent({ number, text }: Line): EventInput & { eventId: string } {
    const record = parseRecord(text);
    const parsed = record ? fromRecord(record, this.#program) : parseLogLine(text, this.#program);
    this.#time = parsed.timestamp ?? this.#time;
    const event = { ...parsed, timestamp: this.#time, metadata: { file: this.#file, line: number } };
    return { ...event, eventId: parsed.eventId ?? hash(JSON.stringify(event)) };
  }
}

function parseRecord(text: string): Record<string, unknown> | undefined {
  if (!text.trimStart().startsWith("{")) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function hash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}

/** `/var/log/dpkg.log.1` → `dpkg`; the logs of npm have a time in place of a name. */
function programOf(file: string): string {
  if (file.includes(`${path.sep}_logs${path.sep}`)) return "npm";
  return path.basename(file).replace(/\.(log|txt|ndjson|jsonl|json|\d+).*$/, "") || "file";
}
