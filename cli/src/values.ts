/** Words on a command line that stand for times, lengths and names. */
import { timestampFromMs } from "@pulsewire/sdk";
import { exitCodes, Failure } from "./failure.ts";

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** `90s`, `15m`, `2h`, `30d` in milliseconds. */
export function parseLength(name: string, text: string): number {
  const [, count = "", unit = ""] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text.trim()) ?? [];
  const ms = Number(count) * (unitMs[unit] ?? Number.NaN);
  if (Number.isFinite(ms)) return ms;
  throw new Failure(`${name} is "${text}"; write a length such as 90s, 15m, 2h or 30d.`, exitCodes.usage);
}

/** A moment: RFC 3339, or how long ago (`direction` -1) or from now (1). */
export function parseMoment(name: string, text: string, direction: 1 | -1) {
  if (/^\d{4}-\d\d-\d\d/.test(text)) {
    const ms = Date.parse(text);
    if (!Number.isNaN(ms)) return timestampFromMs(ms);
  }
  if (/^\d/.test(text) && /[a-z]$/.test(text)) {
    return timestampFromMs(Date.now() + direction * parseLength(name, text));
  }
  throw new Failure(
    `${name} is "${text}"; write a time such as 2026-03-01T12:00:00Z, or a length such as 15m or 2h.`,
    exitCodes.usage,
  );
}

/** `events:write` and `EVENTS_WRITE`, as the value of an enum. */
export function parseWord(
  name: string,
  text: string,
  words: Readonly<Record<string, string | number>>,
): number {
  const value = words[text.toUpperCase().replaceAll(/[:.-]/g, "_")];
  if (typeof value === "number" && value > 0) return value;
  throw new Failure(`${name} is "${text}"; it must be one of ${wordsOf(words).join(", ")}.`, exitCodes.usage);
}

/** The words of an enum but the one for "not given". */
export function wordsOf(words: Readonly<Record<string, string | number>>): string[] {
  return Object.entries(words).flatMap(([name, value]) =>
    typeof value === "number" && value > 0 ? [name.toLowerCase()] : [],
  );
}

/** `name=value` pairs. */
export function parsePairs(name: string, pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw new Failure(`${name} is "${pair}"; write it as name=value.`, exitCodes.usage);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}
