/** CSV as RFC 4180 has it: fields with commas, quotes and line ends in them stand in quotes, and quotes are doubled. */
import type { Row } from "./row.ts";

/** Reads rows; the first one names the columns. Rows without anything are left out. */
export async function* readCsv(chunks: AsyncIterable<string>): AsyncGenerator<Row> {
  let head: string[] | undefined;
  for await (const { line, cells } of readRecords(chunks)) {
    if (cells.length === 1 && cells[0] === "") continue;
    if (!head) {
      head = cells.map((cell) => cell.trim());
      continue;
    }
    const columns = head;
    if (cells.length !== columns.length) {
      yield { line, problem: `has ${cells.length} fields, but there are ${columns.length} columns` };
      continue;
    }
    // An empty field is one that is not given.
    const entries = columns.flatMap((name, index) =>
      cells[index] === "" ? [] : [[name, cells[index]] as const],
    );
    yield { line, text: cells.join("\u001f"), value: Object.fromEntries(entries) };
  }
}

async function* readRecords(
  chunks: AsyncIterable<string>,
): AsyncGenerator<{ line: number; cells: string[] }> {
  let cells: string[] = [];
  let cell = "";
  let quoted = false;
  let closed = false;
  let line = 1;
  let begun = 1;
  let afterReturn = false;
  let first = true;
  for await (const chunk of chunks) {
    for (const character of first ? chunk.replace(/^\ufeff/, "") : chunk) {
      first = false;
      const isLineEnd = character === "\n" && afterReturn;
      afterReturn = character === "\r";
      if (character === "\n" || character === "\r") {
        if (!isLineEnd) line++;
      }
      if (quoted) {
        if (character === '"') {
          quoted = false;
          closed = true;
        } else cell += character;
      } else if (character === '"' && (cell === "" || closed)) {
        // A second quote right behind the first is one of the text.
        if (closed) cell += '"';
        quoted = true;
        closed = false;
      } else if (character === ",") {
        cells.push(cell);
        cell = "";
        closed = false;
      } else if (character === "\n" || character === "\r") {
        if (isLineEnd) continue;
        yield { line: begun, cells: [...cells, cell] };
        cells = [];
        cell = "";
        closed = false;
        begun = line;
      } else cell += character;
    }
  }
  if (cell !== "" || cells.length > 0) yield { line: begun, cells: [...cells, cell] };
}
