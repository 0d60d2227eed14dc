/** Path and query parameters as fields of a request, in the form of ProtoJSON (google.api.http, AIP-127). */
import {
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  ScalarType,
} from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { nearest } from "../listener/nearest.ts";
import { invalidField } from "../rpc/errors.ts";

/** Messages that ProtoJSON writes as one string or number. */
const simpleMessages: Readonly<Record<string, ScalarType>> = {
  "google.protobuf.Timestamp": ScalarType.STRING,
  "google.protobuf.Duration": ScalarType.STRING,
  "google.protobuf.FieldMask": ScalarType.STRING,
  "google.protobuf.StringValue": ScalarType.STRING,
  "google.protobuf.BytesValue": ScalarType.STRING,
  "google.protobuf.BoolValue": ScalarType.BOOL,
  "google.protobuf.DoubleValue": ScalarType.DOUBLE,
  "google.protobuf.FloatValue": ScalarType.FLOAT,
  "google.protobuf.Int32Value": ScalarType.INT32,
  "google.protobuf.UInt32Value": ScalarType.UINT32,
  "google.protobuf.Int64Value": ScalarType.INT64,
  "google.protobuf.UInt64Value": ScalarType.UINT64,
};

/**
 * Puts parameters into a request: `a.b=1` into nested messages, a repeated field once for each value, an entry of a map as
 * `labels[key]=value`. Names in proto or in JSON spelling. Throws INVALID_FIELD for one that the request does not have, that
 * is given twice, or that cannot be read.
 */
export function setParameters(
  schema: DescMessage,
  target: JsonObject,
  parameters: Iterable<readonly [name: string, value: string]>,
  ignoreUnknown = false,
): void {
  const given = new Set<string>();
  for (const [name, value] of parameters) {
    const mapped = /^(.+)\[([^\]]*)\]$/.exec(name);
    const place = locate(schema, target, mapped?.[1] ?? name);
    if (!place) {
      if (ignoreUnknown) continue;
      throw unknown(schema, name);
    }
    const { field, parent } = place;
    if (field.fieldKind === "map") {
      if (!mapped) throw invalidField(name, `is a map; give an entry as ${name}[key]=value`, "query.map");
      const entries = objectIn(parent, field.jsonName);
      entries[mapped[2] as string] = leafOf(field, value, name);
    } else if (mapped) {
      throw invalidField(name, `${mapped[1]} is no map`, "query.map");
    } else if (field.fieldKind === "list") {
      parent[field.jsonName] ??= [];
      (parent[field.jsonName] as JsonValue[]).push(leafOf(field, value, name));
    } else {
      if (given.has(name)) throw invalidField(name, "is given twice; it takes one value", "query.repeated");
      given.add(name);
      parent[field.jsonName] = leafOf(field, value, name);
    }
  }
}

/** The field that a path leads to, and the object that holds it. */
function locate(
  schema: DescMessage,
  target: JsonObject,
  path: string,
): { field: DescField; parent: JsonObject } | undefined {
  const steps = path.split(".");
  const last = steps.pop();
  const named = (message: DescMessage, name: string | undefined) =>
    message.fields.find((each) => each.name === name || each.jsonName === name);
  const messages: DescField[] = [];
  let message = schema;
  for (const step of steps) {
    const field = named(message, step);
    if (field?.fieldKind !== "message" || field.message.typeName in simpleMessages) return undefined;
    messages.push(field);
    message = field.message;
  }
  const field = named(message, last);
  return (
    field && { field, parent: messages.reduce((parent, { jsonName }) => objectIn(parent, jsonName), target) }
  );
}

function unknown(schema: DescMessage, name: string): ConnectError {
  const names = schema.fields.map((each) => each.jsonName);
  const hint = nearest(name, names);
  const instead = hint ? `did you mean ${hint}?` : `there are: ${names.join(", ") || "none"}`;
  return invalidField(name, `is no parameter of this call; ${instead}`, "query.unknown");
}

function objectIn(parent: JsonObject, name: string): JsonObject {
  parent[name] ??= {};
  return parent[name] as JsonObject;
}

function leafOf(field: DescField, value: string, name: string): JsonValue {
  const scalar = field.scalar ?? (field.message && simpleMessages[field.message.typeName]);
  if (scalar !== undefined) return scalarOf(scalar, value, name);
  if (field.enum) return enumOf(field, value, name);
  throw invalidField(
    name,
    "cannot be given in the query; give its fields, such as name.field=value",
    "query.message",
  );
}

function enumOf(field: DescField, value: string, name: string): JsonValue {
  const { values = [], sharedPrefix = "" } = field.enum ?? {};
  const upper = value.toUpperCase().replaceAll("-", "_");
  const word = values.find((each) => each.name === upper || each.name === sharedPrefix.toUpperCase() + upper);
  if (word) return word.name;
  const words = values.slice(1).map((each) => each.name);
  throw invalidField(name, `is '${clip(value)}'; it must be one of ${words.join(", ")}`, "enum.defined_only");
}

const wholeNumbers = new Set<ScalarType>([
  ScalarType.INT32,
  ScalarType.INT64,
  ScalarType.UINT32,
  ScalarType.UINT64,
  ScalarType.FIXED32,
  ScalarType.FIXED64,
  ScalarType.SFIXED32,
  ScalarType.SFIXED64,
  ScalarType.SINT32,
  ScalarType.SINT64,
]);

function scalarOf(type: ScalarType, value: string, name: string): JsonValue {
  if (type === ScalarType.STRING || type === ScalarType.BYTES) return value;
  if (type === ScalarType.BOOL) {
    if (value === "true") return true;
    if (value === "false") return false;
    throw invalidField(name, `is '${clip(value)}'; it must be true or false`, "query.bool");
  }
  if (wholeNumbers.has(type)) {
    if (/^-?\d{1,20}$/.test(value)) return value;
    throw invalidField(name, `is '${clip(value)}'; it must be a whole number`, "query.integer");
  }
  if (value.trim() !== "" && !Number.isNaN(Number(value))) return Number(value);
  throw invalidField(name, `is '${clip(value)}'; it must be a number`, "query.number");
}

function clip(text: string): string {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}
