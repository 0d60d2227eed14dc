import type { EventFields, EventInput } from "./event-input.ts";
import { severities } from "./event-packer.ts";

/** What a copy comes to at most when it is encoded, in bytes. */
export const maxCopyBytes = 4 * 1024;
/** The same in characters: each takes three bytes at most, and there is what frames them. */
const maxCharacters = 1024;
/** What frames a field, in characters. */
const fieldCharacters = 16;

/**
 * Copies an event, so that it can be encoded later, whatever becomes of the program's own objects by then.
 *
 * @returns `undefined` for one that is large, has seldom used fields or something deep in it, or may be refused
 */
export function copyEvent(input: EventInput): EventFields | undefined {
  const { eventType, eventId, title, message, severity, userId, sessionId, timestamp, priority } = input;
  if (input.source || input.metrics || eventId === "") return undefined;
  if (severity !== undefined && !Object.hasOwn(severities, severity)) return undefined;
  if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= 10))
    return undefined;
  const timeMs = timestamp === undefined ? Date.now() : Number(timestamp);
  const { context, metadata, payload } = input;
  const copy = {
    eventType,
    eventId,
    title,
    message,
    severity,
    context: context && { ...context },
    metadata: metadata && { ...metadata },
    payload: payload && { ...payload },
    userId,
    sessionId,
    timestamp: timeMs,
    priority,
  };
  const characters =
    text(eventType) +
    text(eventId) +
    text(title) +
    text(message) +
    text(userId) +
    text(sessionId) +
    fields(context, copy.context) +
    fields(metadata, copy.metadata) +
    fields(payload, copy.payload);
  return characters <= maxCharacters && Number.isFinite(timeMs) ? copy : undefined;
}

/** Characters of a text. */
function text(value: unknown): number {
  if (typeof value === "string") return value.length;
  return value === undefined ? 0 : Number.POSITIVE_INFINITY;
}

/** Characters of an object; without end where a copy of it is not what JSON makes of it. */
function fields(original: object | undefined, copy: object | undefined): number {
  if (original === undefined) return 0;
  if (!copy || Object.getPrototypeOf(original) !== Object.prototype) return Number.POSITIVE_INFINITY;
  let characters = 0;
  for (const key in copy) {
    const value = (copy as Record<string, unknown>)[key];
    characters += fieldCharacters + key.length;
    if (typeof value === "string") characters += value.length;
    else if (typeof value !== "number" && typeof value !== "boolean" && value !== null)
      return Number.POSITIVE_INFINITY;
  }
  return characters;
}
