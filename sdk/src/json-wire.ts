import { endMessage, writeDouble, writeText } from "./wire.ts";

/** How deep objects may lie within each other; those that contain themselves have no end. */
const maxDepth = 90;

/**
 * Writes an object as a google.protobuf.Struct, read as JSON.stringify reads it: `undefined`, functions and symbols are
 * left out, and are null in lists; a Date is a text; numbers that are not finite are null, and -0 is 0.
 *
 * @throws TypeError where JSON cannot hold it
 */
export function writeStruct(page: Uint8Array, at: number, object: object): number {
  return writeFields(page, at, plain(object, "") as object, 0);
}

function writeFields(page: Uint8Array, start: number, object: object, depth: number): number {
  if (depth > maxDepth)
    throw new TypeError(`An object is deeper than ${maxDepth} levels, or contains itself.`);
  let at = start;
  for (const key of Object.keys(object)) {
    const value = plain((object as Record<string, unknown>)[key], key);
    if (value === undefined) continue;
    page[at++] = 0x0a; // fields: a map, key 1, value 2
    const entry = at++;
    page[at++] = 0x0a;
    at = writeText(page, at, key);
    page[at++] = 0x12;
    at = endMessage(page, entry, writeValue(page, at, value, depth));
  }
  return at;
}

/** A google.protobuf.Value behind its length. */
function writeValue(page: Uint8Array, start: number, value: unknown, depth: number): number {
  let at = start + 1;
  switch (typeof value) {
    case "string":
      page[at++] = 0x1a;
      at = writeText(page, at, value);
      break;
    case "number":
      if (Number.isFinite(value)) {
        page[at++] = 0x11;
        // JSON has no negative zero.
        at = writeDouble(page, at, value + 0);
      } else {
        at = writeNull(page, at);
      }
      break;
    case "boolean":
      page[at++] = 0x20;
      page[at++] = value ? 1 : 0;
      break;
    case "object":
      at = writeObject(page, at, value, depth + 1);
      break;
    default:
      throw new TypeError(`JSON cannot hold a ${typeof value}.`);
  }
  return endMessage(page, start, at);
}

function writeNull(page: Uint8Array, at: number): number {
  page[at] = 0x08;
  page[at + 1] = 0;
  return at + 2;
}

function writeObject(page: Uint8Array, start: number, value: object | null, depth: number): number {
  if (value === null) return writeNull(page, start);
  if (!Array.isArray(value)) {
    page[start] = 0x2a;
    return endMessage(page, start + 1, writeFields(page, start + 2, value, depth));
  }
  if (depth > maxDepth) throw new TypeError(`A list is deeper than ${maxDepth} levels, or contains itself.`);
  page[start] = 0x32;
  let at = start + 2;
  for (let index = 0; index < value.length; index++) {
    page[at++] = 0x0a;
    at = writeValue(page, at, plain(value[index], index) ?? null, depth);
  }
  return endMessage(page, start + 1, at);
}

/** What JSON makes of a value before it writes it; `undefined` for what it leaves out. */
function plain(value: unknown, key: string | number): unknown {
  if (typeof value !== "object" || value === null) {
    return typeof value === "function" || typeof value === "symbol" ? undefined : value;
  }
  if ("toJSON" in value && typeof value.toJSON === "function") {
    const json: unknown = value.toJSON(String(key));
    return typeof json === "function" || typeof json === "symbol" ? undefined : json;
  }
  const boxed = value instanceof Number || value instanceof String || value instanceof Boolean;
  return boxed ? value.valueOf() : value;
}
