import type { SeverityName } from "@pulsewire/sdk";

const words: Record<SeverityName, string[]> = {
  debug: ["trace", "debug", "verbose", "silly", "http", "timing"],
  info: ["info", "notice", "information"],
  warning: ["warn", "warning"],
  error: ["err", "error", "severe"],
  critical: ["crit", "critical", "fatal", "alert", "emerg", "emergency", "panic"],
};
const byWord = new Map(
  Object.entries(words).flatMap(([name, all]) => all.map((word) => [word, name as SeverityName] as const)),
);

/** Reads a level: a word in any case, or a number as pino writes it (30 is info). */
export function toSeverity(level: unknown): SeverityName | undefined {
  if (typeof level === "string") return byWord.get(level.toLowerCase());
  if (typeof level !== "number") return undefined;
  if (level < 30) return "debug";
  if (level < 40) return "info";
  if (level < 50) return "warning";
  return level < 60 ? "error" : "critical";
}
