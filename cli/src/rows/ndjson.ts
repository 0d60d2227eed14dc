import type { Row } from "./row.ts";

/** Reads one JSON object a line; empty lines are left out. */
export async function* readNdjson(chunks: AsyncIterable<string>): AsyncGenerator<Row> {
  let rest = "";
  let line = 0;
  for await (const chunk of chunks) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) {
      line++;
      if (text.trim() !== "") yield toRow(line, text);
    }
  }
  if (rest.trim() !== "") yield toRow(line + 1, rest);
}

function toRow(line: number, raw: string): Row {
  const text = raw.trim().replace(/^\ufeff/, "");
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return { line, text, value: value as Record<string, unknown> };
    return { line, problem: "is no JSON object" };
  } catch (error) {
    return { line, problem: `is no JSON: ${(error as Error).message}` };
  }
}
