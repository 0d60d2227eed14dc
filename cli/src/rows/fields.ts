/** Fields of a row by their names, in camelCase or snake_case, with dots for what lies in an object. */
import { RowError } from "./row.ts";

type Fields = Record<string, unknown>;

/** `user_id` and `userId` are the same name. */
export function camel(name: string): string {
  return name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/**
 * Sorts the values of a row: known fields, objects put together from `payload.amount`, and what is neither, under
 * `others`.
 */
export function sortFields(
  row: Readonly<Fields>,
  known: ReadonlySet<string>,
  objects: ReadonlySet<string>,
): { fields: Fields; others: Fields } {
  const fields: Fields = {};
  const others: Fields = {};
  for (const [name, value] of Object.entries(row)) {
    if (value === null || value === undefined) continue;
    const dot = name.indexOf(".");
    const object = camel(dot > 0 ? name.slice(0, dot) : name);
    if (dot > 0 && objects.has(object)) {
      fields[object] = { ...(fields[object] as Fields | undefined), [name.slice(dot + 1)]: value };
    } else if (known.has(camel(name))) {
      const key = camel(name);
      fields[key] = objects.has(key)
        ? { ...(fields[key] as Fields | undefined), ...objectOf(name, value) }
        : value;
    } else others[name] = value;
  }
  return { fields, others };
}

function objectOf(name: string, value: unknown): Fields {
  const object = typeof value === "string" && value.trim().startsWith("{") ? parse(name, value) : value;
  if (typeof object === "object" && object !== null && !Array.isArray(object)) return object as Fields;
  throw new RowError(`${name} is no JSON object`);
}

function parse(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new RowError(`${name} is no JSON object`);
  }
}

/** Text, or a number as text. */
export function textOf(name: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  throw new RowError(`${name} is no text`);
}

export function numberOf(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "number" && Number.isFinite(number)) return number;
  throw new RowError(`${name} is no number: ${JSON.stringify(value)}`);
}

/** Smaller numbers are seconds: as milliseconds they would lie in the first weeks of 1973. */
const leastMs = 1e11;

/** Milliseconds since 1970 of an RFC 3339 time, or of seconds or milliseconds since 1970. */
export function momentOf(name: string, value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const number = typeof value === "number" || /^\d+(\.\d+)?$/.test(String(value)) ? Number(value) : undefined;
  const ms = number === undefined ? Date.parse(String(value)) : number < leastMs ? number * 1000 : number;
  if (!Number.isNaN(ms)) return ms;
  throw new RowError(`${name} is no time: ${JSON.stringify(value)}`);
}

/** A CSV field as what it looks like: a number, true, false, otherwise text. Numbers with leading zeros are text. */
export function guess(value: unknown): unknown {
  if (typeof value !== "string") return value;
  if (value === "true" || value === "false") return value === "true";
  return /^-?(0|[1-9]\d{0,14})(\.\d{1,15})?$/.test(value) ? Number(value) : value;
}

/** All values of an object guessed. */
export function guessAll(object: Fields): Fields {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, guess(value)]));
}
