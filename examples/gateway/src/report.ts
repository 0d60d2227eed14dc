import type { GatewayCounts, SeriesPoints } from "@pulsewire/sdk";
import type { Sent } from "./send.ts";
import { chart, count, sparkline, table } from "./terminal.ts";

/** Rows of the table of types; the rest are put together. */
const mostRows = 15;

/** What became of the events, and how many of each type are stored. */
export function eventReport(sent: Sent, { events }: GatewayCounts, stored: Map<string, number>): string {
  const bySent = new Map<string, number>();
  for (const type of sent.events.values()) bySent.set(type, (bySent.get(type) ?? 0) + 1);
  const rows = [...bySent]
    .sort(([, a], [, b]) => b - a)
    .map(([type, number]) => [type, number, stored.get(type) ?? 0] as [string, number, number]);
  const rest = rows.splice(mostRows);
  if (rest.length > 0) {
    const sum = (index: 1 | 2) => rest.reduce((total, row) => total + row[index], 0);
    rows.push([`${rest.length} more types`, sum(1), sum(2)]);
  }
  const { queued, accepted, duplicate, conflict, rejected, dropped } = events;
  const outcome = [
    `${count(accepted)} accepted`,
    `${count(duplicate)} duplicate`,
    `${count(conflict)} conflicting`,
    `${count(rejected)} rejected`,
    ...Object.entries(dropped).map(([reason, number]) => `${count(number)} dropped (${reason})`),
  ].join(", ");
  const known =
    duplicate === queued && queued > 0 ? "\nAll of them were there already: nothing was stored twice." : "";
  return `Events: ${outcome}${known}\n\n${table(["type", "sent", "stored"], rows)}`;
}

/** The readings as they came back: two charts, and the range of every series. */
export function sampleReport(series: SeriesPoints[]): string {
  const rows = series
    .filter(({ values }) => values.length > 0)
    .map(({ name, labels, unit, values }) => {
      const write = writer(unit);
      const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
      const title = [name, ...Object.values(labels)].join(" ");
      const range = [Math.min(...values), mean, Math.max(...values)].map(write);
      return [title, values.length, sparkline(values), ...range];
    });
  const charts = [
    {
      title: "CPU, all cores",
      found: series.find(({ name, labels }) => name === "cpu_usage" && labels.cpu === "all"),
      range: { least: 0, most: 100 },
    },
    { title: "Memory", found: series.find(({ name }) => name === "memory_usage"), range: undefined },
  ];
  const drawn = charts.flatMap(({ title, found, range }) =>
    found && found.values.length > 1 ? [`${title}\n${chart(found.values, writer(found.unit), range)}\n`] : [],
  );
  return `${drawn.join("")}${table(["reading", "samples", "over time", "min", "mean", "max"], rows)}`;
}

/** Writes values of a unit, short. */
function writer(unit: string): (value: number) => string {
  if (unit === "percent") return (value) => `${value.toFixed(1)} %`;
  if (!unit.startsWith("bytes")) return (value) => value.toFixed(2);
  return (value) => {
    const step = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(1, value)) / 10)));
    const text = (value / 1024 ** step).toFixed(step === 0 ? 0 : 1);
    return `${text} ${["B", "KiB", "MiB", "GiB", "TiB"][step]}${unit.slice("bytes".length)}`;
  };
}
