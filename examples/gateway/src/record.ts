import type { EventInput, SeverityName } from "@pulsewire/sdk";
import { toSeverity } from "./severity.ts";

/** An event of which the time may be missing. */
export type ParsedEvent = Omit<EventInput, "timestamp"> & { timestamp?: number };

/** Known fields and the names they go by, first come first served. */
const names = {
  eventId: ["event_id", "eventId"],
  eventType: ["event_type", "eventType", "type", "event"],
  userId: ["user_id", "userId"],
  sessionId: ["session_id", "sessionId"],
  title: ["title"],
  message: ["message", "msg"],
} as const;
const timeNames = ["timestamp", "time", "ts", "@timestamp", "date"];
const severityNames = ["severity", "level"];
const limits = { eventId: 200, eventType: 200, userId: 200, sessionId: 200, title: 500, message: 10_000 };

/** Reads a line of NDJSON: known fields become fields of the event, everything else its payload. */
export function fromRecord(record: Record<string, unknown>, program: string): ParsedEvent {
  const payload = { ...record };
  const texts: Partial<Record<keyof typeof names, string>> = {};
  for (const field of Object.keys(names) as (keyof typeof names)[]) {
    const name = names[field].find((candidate) => isText(payload[candidate], limits[field]));
    if (name === undefined) continue;
    texts[field] = payload[name] as string;
    delete payload[name];
  }
  if (texts.eventId !== undefined && !/^[\x21-\x7e]+$/.test(texts.eventId)) delete texts.eventId;
  const severity = take(payload, severityNames, toSeverity);
  const timestamp = take(payload, timeNames, toTime);
  return {
    ...texts,
    eventType: texts.eventType ?? `log.${program}`,
    ...(severity !== undefined && { severity: severity satisfies SeverityName }),
    ...(timestamp !== undefined && { timestamp }),
    payload,
  };
}

function take<T>(
  record: Record<string, unknown>,
  candidates: string[],
  read: (value: unknown) => T | undefined,
): T | undefined {
  for (const name of candidates) {
    const value = read(record[name]);
    if (value === undefined) continue;
    delete record[name];
    return value;
  }
  return undefined;
}

function isText(value: unknown, most: number): value is string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what an event's type may not have.
  return typeof value === "string" && value !== "" && value.length <= most && !/[\x00-\x1f\x7f]/.test(value);
}

/** Milliseconds since 1970: from text, or from a number of seconds or milliseconds. */
function toTime(value: unknown): number | undefined {
  if (typeof value === "number")
    return value > 0 ? Math.trunc(value < 1e11 ? value * 1000 : value) : undefined;
  const time = typeof value === "string" ? Date.parse(value) : Number.NaN;
  return time >= 0 ? time : undefined;
}
