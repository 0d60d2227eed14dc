/** A bar that fills on one line; where the output is no terminal, a line when it is full. */
export class ProgressBar {
  readonly #label: string;
  readonly #terminal = process.stdout.isTTY === true;

  constructor(label: string) {
    this.#label = label;
  }

  /** Shows how far it is: `done` of `total`, and a remark behind. */
  show(done: number, total: number, remark = ""): void {
    if (!this.#terminal) return;
    const part = total > 0 ? Math.min(1, done / total) : 0;
    const full = Math.round(part * 30);
    const bar = "█".repeat(full) + "░".repeat(30 - full);
    process.stdout.write(
      `\r${this.#label} ${bar} ${String(Math.round(part * 100)).padStart(3)} % ${remark}\x1b[K`,
    );
  }

  /** Ends the line. */
  finish(remark: string): void {
    process.stdout.write(
      this.#terminal ? `\r${this.#label} ${remark}\x1b[K\n` : `${this.#label} ${remark}\n`,
    );
  }
}

/** Rows in columns: the first to the left, the others, which are numbers, to the right. */
export function table(head: string[], rows: (string | number)[][]): string {
  const cells = [
    head,
    ...rows.map((row) => row.map((cell) => (typeof cell === "number" ? count(cell) : cell))),
  ];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("   "),
    )
    .map((line) => `  ${line.trimEnd()}\n`)
    .join("");
}

/** A number with its thousands apart. */
export function count(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

const blocks = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/** What the bottom and the top of a chart stand for. */
export interface Range {
  least: number;
  most: number;
}

/**
 * A chart of values over time, four rows high.
 *
 * @param format writes a value at the axis
 * @param range default: that of the values
 */
export function chart(values: number[], format: (value: number) => string, range?: Range): string {
  const rows = 4;
  const points = fit(values, 60);
  const { least, most } = range ?? rangeOf(points);
  const steps = points.map((value) => step(value, { least, most }, rows * 8));
  const axis = [format(most), ...Array.from({ length: rows - 2 }, () => ""), format(least)];
  const margin = Math.max(...axis.map((text) => text.length));
  return axis
    .map((text, row) => {
      const below = (rows - 1 - row) * 8;
      const line = steps.map((eighths) => blocks[Math.min(8, Math.max(0, eighths - below))]).join("");
      return `  ${text.padStart(margin)} ┤${line.trimEnd()}\n`;
    })
    .join("");
}

/** A chart of one row without an axis, from the least value to the greatest. */
export function sparkline(values: number[], width = 20): string {
  const points = fit(values, width).slice(0, width);
  const range = rangeOf(points);
  return points.map((value) => blocks[step(value, range, 8)]).join("");
}

function rangeOf(values: number[]): Range {
  return { least: Math.min(...values), most: Math.max(...values) };
}

/** From 1, so that the least value can be seen, to `steps`. */
function step(value: number, { least, most }: Range, steps: number): number {
  return 1 + Math.round(((value - least) / (most - least || 1)) * (steps - 1));
}

/** As many values as fit: each the mean of those that fall on it. Few are drawn twice as wide. */
function fit(values: number[], width: number): number[] {
  const length = Math.min(width, values.length * 2);
  return Array.from({ length }, (_, column) => {
    const from = Math.floor((column * values.length) / length);
    const until = Math.max(from + 1, Math.floor(((column + 1) * values.length) / length));
    const part = values.slice(from, until);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}
