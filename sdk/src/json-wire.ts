import type { WireWriter } from "./wire-writer.ts";

/** How deep objects may lie within each other; those that contain themselves have no end. */
const maxDepth = 90;

/**
 * Writes an object as a google.protobuf.Struct, read as JSON.stringify reads it: `undefined`, functions and symbols are
 * left out, and are null in lists; a Date is a text; numbers that are not finite are null, and -0 is 0.
 *
 * @throws TypeError where JSON cannot hold it
 */
export function writeStruct(writer: WireWriter, object: object): void {
  writeFields(writer, plain(object, "") as object, 0);
}

function writeFields(writer: WireWriter, object: object, depth: number): void {
  if (depth > maxDepth)
    throw new TypeError(`An object is deeper than ${maxDepth} levels, or contains itself.`);
  for (const key of Object.keys(object)) {
    const value = plain((object as Record<string, unknown>)[key], key);
    if (value === undefined) continue;
    writer.byte(0x0a); // fields: a map, key 1, value 2
    const entry = writer.begin();
    writer.byte(0x0a);
    writer.text(key);
    writer.byte(0x12);
    writeValue(writer, value, depth);
    writer.end(entry);
  }
}

/** A google.protobuf.Value behind its length. */
function writeValue(writer: WireWriter, value: unknown, depth: number): void {
  const start = writer.begin();
  switch (typeof value) {
    case "string":
      writer.byte(0x1a);
      writer.text(value);
      break;
    case "number":
      if (Number.isFinite(value)) {
        writer.byte(0x11);
        // JSON has no negative zero.
        writer.double(value + 0);
      } else {
        writer.byte(0x08);
        writer.byte(0);
      }
      break;
    case "boolean":
      writer.byte(0x20);
      writer.byte(value ? 1 : 0);
      break;
    case "object":
      writeObject(writer, value, depth + 1);
      break;
    default:
      throw new TypeError(`JSON cannot hold a ${typeof value}.`);
  }
  writer.end(start);
}

function writeObject(writer: WireWriter, value: object | null, depth: number): void {
  if (value === null) {
    writer.byte(0x08);
    writer.byte(0);
  } else if (Array.isArray(value)) {
    if (depth > maxDepth)
      throw new TypeError(`A list is deeper than ${maxDepth} levels, or contains itself.`);
    writer.byte(0x32);
    const list = writer.begin();
    for (let index = 0; index < value.length; index++) {
      writer.byte(0x0a);
      writeValue(writer, plain(value[index], index) ?? null, depth);
    }
    writer.end(list);
  } else {
    writer.byte(0x2a);
    const struct = writer.begin();
    writeFields(writer, value, depth);
    writer.end(struct);
  }
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
