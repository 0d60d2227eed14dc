import { writeFileSync } from "node:fs";
import os from "node:os";

/** What one bench found: a table to read and the figures behind it. */
export interface BenchResult {
  readonly name: string;
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Lines below the table. */
  readonly notes?: readonly string[];
  readonly figures: unknown;
  /** What stands in the one table of all benches. */
  readonly comparisons?: readonly Comparison[];
}

/** Ours against one other, from the same run. */
export interface Comparison {
  /** What was done, such as `unary gRPC, calls/s`. */
  readonly what: string;
  readonly peer: string;
  readonly ours: Spread;
  readonly theirs: Spread;
}

/** A middle and the range around it. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const middle = (sorted.length - 1) / 2;
  return {
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    min: at(0),
    max: at(sorted.length - 1),
  };
}

/** A number with as many digits as it deserves. */
export function show(value: number, digits = 3): string {
  if (!Number.isFinite(value)) return "–";
  return Math.abs(value) >= 10 ** (digits - 1)
    ? Math.round(value).toLocaleString("en-US")
    : String(Number(value.toPrecision(digits)));
}

/** Prints a result as a table: the first column to the left, numbers to the right. */
export function printResult({ title, columns, rows, notes = [] }: BenchResult): void {
  const lines = [columns, ...rows];
  const widths = columns.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  console.log(`\n${title}\n`);
  for (const line of lines) {
    const cells = widths.map((width, column) => {
      const cell = line[column] ?? "";
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    console.log(cells.join("  "));
  }
  for (const note of notes) console.log(note);
}

/** All comparisons of all benches in one table; the ratio is of medians, ours to theirs. */
export function printComparisons(results: readonly BenchResult[]): void {
  const all = results.flatMap(({ comparisons = [] }) => comparisons);
  if (all.length === 0) return;
  const range = ({ min, max }: Spread) => `${show(min)}–${show(max)}`;
  printResult({
    name: "comparisons",
    title: "Ours and others, side by side in the same run",
    columns: ["", "peer", "ours", "spread", "peer's", "spread", "ratio"],
    rows: all.map(({ what, peer, ours, theirs }) => [
      what,
      peer,
      show(ours.median),
      range(ours),
      show(theirs.median),
      range(theirs),
      (ours.median / theirs.median).toFixed(2),
    ]),
    figures: undefined,
  });
}

/** Writes results as JSON, with the machine they belong to. */
export function writeReport(file: string, results: readonly BenchResult[]): void {
  const report = {
    at: new Date().toISOString(),
    machine: {
      cpus: os.cpus().length,
      model: os.cpus()[0]?.model,
      node: process.version,
      load: os.loadavg(),
    },
    benches: results.map(({ name, title, figures, comparisons = [] }) => ({
      name,
      title,
      figures,
      comparisons: comparisons.map((each) => ({ ...each, ratio: each.ours.median / each.theirs.median })),
    })),
  };
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}
