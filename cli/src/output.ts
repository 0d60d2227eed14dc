import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@pulsewire/sdk";
import type { Call } from "./command.ts";
import { type Io, write } from "./io.ts";

type Timestamp = Parameters<typeof timestampMs>[0];

/** Prints one message as a line of ProtoJSON. */
export async function printJson<D extends DescMessage>(
  io: Io,
  schema: D,
  message: MessageShape<D>,
): Promise<void> {
  await write(io.stdout, `${JSON.stringify(toJson(schema, message))}\n`);
}

/** Prints a value as a line of JSON. */
export async function printValue(io: Io, value: unknown): Promise<void> {
  await write(io.stdout, `${JSON.stringify(value)}\n`);
}

/** How a list is shown to people. */
interface Table<Item> {
  readonly head: string[];
  row(item: Item): string[];
  /** What is said where the list is empty. */
  readonly none: string;
}

/** Prints a list that comes in pieces: each item as a line of ProtoJSON at once, or all in columns. */
export async function printList<D extends DescMessage, Piece>(
  { io, json }: Pick<Call, "io" | "json">,
  schema: D,
  pieces: AsyncIterable<Piece> | Iterable<Piece>,
  itemsOf: (piece: Piece) => readonly MessageShape<D>[],
  table: Table<MessageShape<D>>,
): Promise<void> {
  const rows: string[][] = [];
  for await (const piece of pieces) {
    for (const item of itemsOf(piece)) {
      if (json) await printJson(io, schema, item);
      else rows.push(table.row(item));
    }
  }
  if (!json) await printTable(io, table.head, rows, table.none);
}

/** Prints rows in columns; with no rows, what is said then. */
export async function printTable(io: Io, head: string[], rows: string[][], none: string): Promise<void> {
  if (rows.length === 0) {
    await write(io.stderr, `${none}\n`);
    return;
  }
  const lines = [head.map((title) => title.toUpperCase()), ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  const text = lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
  await write(io.stdout, `${text}\n`);
}

/** Prints names and values below each other. */
export async function printFacts(io: Io, facts: Record<string, string | undefined>): Promise<void> {
  const rows = Object.entries(facts).filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(...rows.map(([name]) => name.length)) + 1;
  await write(io.stdout, rows.map(([name, value]) => `${`${name}:`.padEnd(width)}  ${value}\n`).join(""));
}

/** RFC 3339 with milliseconds; a dash where there is none. */
export function timeText(time: Timestamp | undefined): string {
  return time ? new Date(timestampMs(time)).toISOString() : "-";
}

/** The word of an enum, small: `FIRING` → `firing`. */
export function word(names: Record<number, string>, value: number): string {
  return (names[value] ?? String(value)).toLowerCase();
}

/** What a text from outside may do to a terminal is taken from it: control characters become visible. */
export function plain(text: string): string {
  return text.replaceAll(/[^\P{Cc}\t]/gu, (character) => {
    if (character === "\n") return "⏎";
    return `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
}
