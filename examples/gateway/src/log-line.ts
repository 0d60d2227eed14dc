import type { ParsedEvent } from "./record.ts";
import { toSeverity } from "./severity.ts";

/** Most characters that the message of an event may have. */
const mostCharacters = 10_000;

const iso = /^\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)\]?\s*/;
const syslog = /^([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) \S+ /;
const access = /^\S+ \S+ \S+ \[(\d\d)\/([A-Z][a-z]{2})\/(\d{4}):(\d\d:\d\d:\d\d) ([+-]\d{4})\] /;
const tag = /^(?:[^\s:]+ )?([A-Za-z][\w./-]*?)(?:\[\d+\])?: /;

/**
 * Reads a line of a log: time, program and level where they can be told, and the line itself as the message.
 * The type is `log.<program>`, with the level behind it, or with what dpkg did, which writes no level.
 *
 * @param program whose log it is, where the line does not say
 */
export function parseLogLine(line: string, program: string): ParsedEvent {
  const { timestamp, rest } = parseTime(line);
  const tagged = timestamp === undefined ? undefined : tag.exec(rest)?.[1];
  const name = tagged === undefined || toSeverity(tagged) ? program : tagged;
  const words = rest.split(/\s+/, 4).map((word) => word.replace(/^[[(<]+|[\])>:,]+$/g, ""));
  const level = words.find((word) => toSeverity(word) !== undefined);
  const severity = toSeverity(level);
  const kind = name === "dpkg" ? words[0] : level?.toLowerCase();
  return {
    eventType: (kind ? `log.${name}.${kind}` : `log.${name}`).slice(0, 200),
    message: line.slice(0, mostCharacters),
    source: { service: name.slice(0, 200) },
    ...(severity !== undefined && { severity }),
    ...(timestamp !== undefined && { timestamp }),
  };
}

function parseTime(line: string): { timestamp?: number; rest: string } {
  for (const [pattern, read] of formats) {
    const match = pattern.exec(line);
    const time = match ? Date.parse(read(match)) : Number.NaN;
    if (match && time >= 0) return { timestamp: time, rest: line.slice(match[0].length) };
  }
  return { rest: line };
}

const formats: [RegExp, (match: RegExpExecArray) => string][] = [
  [iso, ([, time = ""]) => time.replace(" ", "T").replace(",", ".")],
  [syslog, ([, time = ""]) => withYear(time)],
  [access, ([, day, month, year, time, zone]) => `${day} ${month} ${year} ${time} ${zone}`],
];

/** Syslog leaves the year out: it is this one, or the last where that would lie ahead. */
function withYear(time: string): string {
  const year = new Date().getFullYear();
  const ahead = Date.parse(`${time} ${year}`) > Date.now() + 24 * 3_600_000;
  return `${time} ${ahead ? year - 1 : year}`;
}
