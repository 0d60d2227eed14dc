/**
 * Reads requests from JSON in a third of the library's time: by readers that are made once from the descriptors, for what
 * requests usually are. Whatever is not the ordinary form of the mapping (null, proto names, numbers as text, duplicate keys, all
 * that is wrong) is left to the library, so that the rules and their errors have one source; a test compares the two.
 */
import {
  create,
  type DescField,
  type DescMessage,
  fromJson,
  fromJsonString,
  type JsonReadOptions,
  type JsonValue,
  type Message,
  ScalarType,
} from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Makes a value of a field from JSON; throws where it is not of the ordinary form. */
type ReadValue = (json: JsonValue) => unknown;
type Fields = Record<string, unknown>;
type SetField = (message: Fields, json: JsonValue) => void;

/** Thrown where the library has to decide. No error: making one would take longer than all the rest. */
const irregular = Symbol("irregular");

/** The reader of a message type, as `fromJsonString` with these options. */
export function jsonReader(
  schema: DescMessage,
  options: Partial<JsonReadOptions>,
): (text: string) => Message {
  const read = new Readers(options).of(schema);
  return (text) => (read && quickly(read, text)) ?? fromJsonString(schema, text, options);
}

/** Reads what is of the ordinary form; undefined: it is not. For tests, which count how much is. */
export function readQuickly(
  schema: DescMessage,
  text: string,
  options: Partial<JsonReadOptions>,
): Message | undefined {
  const read = new Readers(options).of(schema);
  return read && quickly(read, text);
}

function quickly(read: ReadValue, text: string): Message | undefined {
  try {
    const json = JSON.parse(text) as JsonValue;
    return hasEveryKey(text, json) ? (read(json) as Message) : undefined;
  } catch {
    // Said again, in words, by the library.
    return undefined;
  }
}

/**
 * Whether a text has no more members than the value that was parsed from it, which keeps the last of equal keys: each member
 * has a colon, and all other colons are in texts that are there. A colon that is written otherwise would confuse the count.
 */
function hasEveryKey(text: string, json: JsonValue): boolean {
  return colonsIn(text) === colonsOf(json, maxDepth) && !text.includes("\\u003");
}

function colonsIn(text: string): number {
  let count = 0;
  for (let at = text.indexOf(":"); at >= 0; at = text.indexOf(":", at + 1)) count++;
  return count;
}

/** Far within what the library takes. */
const maxDepth = 50;

/** The colons of a value as JSON; NaN where it is nested too deeply. */
function colonsOf(json: JsonValue, depth: number): number {
  if (typeof json === "string") return colonsIn(json);
  if (typeof json !== "object" || json === null) return 0;
  if (depth === 0) return Number.NaN;
  let count = 0;
  if (Array.isArray(json)) {
    for (const item of json) count += colonsOf(item, depth - 1);
    return count;
  }
  for (const key in json) count += 1 + colonsIn(key) + colonsOf(json[key] as JsonValue, depth - 1);
  return count;
}

/** The readers of message types, each made once. */
class Readers {
  readonly #options: Partial<JsonReadOptions>;
  readonly #known = new Map<DescMessage, ReadValue>();

  constructor(options: Partial<JsonReadOptions>) {
    this.#options = options;
  }

  of(schema: DescMessage): ReadValue {
    let read = this.#known.get(schema);
    if (!read) {
      // Known before its fields are, for messages that hold themselves.
      let made: ReadValue = () => unreadable();
      this.#known.set(schema, (json) => made(json));
      made = schema.typeName.startsWith("google.protobuf.") ? this.#wellKnown(schema) : this.#message(schema);
      read = made;
      this.#known.set(schema, read);
    }
    return read;
  }

  #message(schema: DescMessage): ReadValue {
    // By name in JSON alone: with two names for a field it could be set twice.
    const fields = new Map(schema.fields.map((field) => [field.jsonName, this.#field(field)]));
    return (json) => {
      if (!isObject(json)) unreadable();
      const message = create(schema) as unknown as Fields;
      for (const key in json) {
        const set = fields.get(key);
        if (!set) unreadable();
        else set(message, json[key] as JsonValue);
      }
      return message;
    };
  }

  #wellKnown(schema: DescMessage): ReadValue {
    switch (schema.typeName) {
      case TimestampSchema.typeName:
        return readTimestamp;
      // A field of this type is the plain object; it was found to be JSON when it was parsed.
      case "google.protobuf.Struct":
        return (json) => (isObject(json) ? json : unreadable());
      case "google.protobuf.Duration":
      case "google.protobuf.FieldMask":
      case "google.protobuf.Value":
        return (json) => fromJson(schema, json, this.#options);
      default:
        return unreadable;
    }
  }

  #field(field: DescField): SetField {
    const name = field.localName;
    const read = this.#value(field);
    if (!field.oneof) {
      return (message, json) => {
        message[name] = read(json);
      };
    }
    const group = field.oneof.localName;
    return (message, json) => {
      if ((message[group] as { case?: string }).case !== undefined) unreadable();
      message[group] = { case: name, value: read(json) };
    };
  }

  #value(field: DescField): ReadValue {
    switch (field.fieldKind) {
      case "scalar":
        return field.longAsString ? unreadable : scalarReader(field.scalar);
      case "enum":
        return enumReader(field);
      case "message":
        return this.#notNull(field.message);
      case "list": {
        const read = this.#item(field);
        return (json) => (Array.isArray(json) ? json.map(read) : unreadable());
      }
      case "map": {
        if (field.mapKey !== ScalarType.STRING) return unreadable;
        const read = this.#item(field);
        return (json) => {
          if (!isObject(json)) unreadable();
          const map: Fields = {};
          for (const key in json) {
            if (key === "__proto__" || !key.isWellFormed()) unreadable();
            map[key] = read(json[key] as JsonValue);
          }
          return map;
        };
      }
    }
  }

  #item(field: DescField & { fieldKind: "list" | "map" }): ReadValue {
    if (field.message) return this.#notNull(field.message);
    if (field.enum) return enumReader(field);
    if (field.fieldKind === "list" && field.longAsString) return unreadable;
    return scalarReader(field.scalar);
  }

  /** Null resets a field or is an error, but for Value. */
  #notNull(schema: DescMessage): ReadValue {
    const read = this.of(schema);
    return (json) => (json === null ? unreadable() : read(json));
  }
}

function unreadable(): never {
  throw irregular;
}

function isObject(json: JsonValue): json is { [key: string]: JsonValue } {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

function enumReader(field: { readonly enum: DescField["enum"] }): ReadValue {
  const numbers = new Map(field.enum?.values.map(({ jsonName, number }) => [jsonName, number]));
  for (const { name, number } of field.enum?.values ?? []) numbers.set(name, number);
  return (json) => numbers.get(json as string) ?? unreadable();
}

const integer = /^-?(?:0|[1-9]\d{0,17})$/;

function scalarReader(type: ScalarType): ReadValue {
  switch (type) {
    case ScalarType.STRING:
      return (json) => (typeof json === "string" && json.isWellFormed() ? json : unreadable());
    case ScalarType.BOOL:
      return (json) => (typeof json === "boolean" ? json : unreadable());
    case ScalarType.DOUBLE:
      return (json) => (Number.isFinite(json) ? json : unreadable());
    case ScalarType.INT32:
    case ScalarType.SINT32:
    case ScalarType.SFIXED32:
      return (json) => (json === ((json as number) | 0) ? json : unreadable());
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return (json) => (json === (json as number) >>> 0 ? json : unreadable());
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return (json) => bigIntOf(json);
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return (json) => {
        const value = bigIntOf(json);
        return value < 0n ? unreadable() : value;
      };
    case ScalarType.BYTES:
      return (json) =>
        typeof json === "string" ? (json === "" ? new Uint8Array(0) : base64Decode(json)) : unreadable();
    default:
      return unreadable;
  }
}

function bigIntOf(json: JsonValue): bigint {
  if (typeof json === "string" ? integer.test(json) : Number.isSafeInteger(json)) {
    return BigInt(json as string | number);
  }
  return unreadable();
}

const utcTimestamp = /^(\d{4})-(\d{2})-(\d{2})T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.(\d{1,9}))?Z$/;

/** In UTC, which is how programs write it, and after the year 1970. */
const readTimestamp: ReadValue = (json) => {
  if (typeof json !== "string") return unreadable();
  const parts = utcTimestamp.exec(json);
  if (!parts) return unreadable();
  const fraction = parts[4];
  const ms = Date.parse(fraction === undefined ? json : `${json.slice(0, 19)}Z`);
  if (!(ms >= 0)) return unreadable();
  const timestamp = create(TimestampSchema);
  timestamp.seconds = BigInt(ms / 1_000);
  if (fraction !== undefined) timestamp.nanos = Number(fraction.padEnd(9, "0"));
  return timestamp;
};
