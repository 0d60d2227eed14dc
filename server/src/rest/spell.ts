/** Messages as JSON in the spelling of a dialect, with every field there. */
import {
  type DescField,
  type DescMessage,
  isMessage,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  type Registry,
  ScalarType,
  toJson,
} from "@bufbuild/protobuf";
import type { Spelling } from "./dialect.ts";

/** Throws nothing for a message of this schema. */
export function spell(
  schema: DescMessage,
  message: MessageShape<DescMessage>,
  { names, int64 }: Spelling,
  registry: Registry,
): JsonObject {
  if (!isMessage(message, schema)) throw new TypeError(`no ${schema.typeName}`);
  const useProtoFieldName = names === "proto";
  const json = toJson(schema, message, {
    alwaysEmitImplicit: true,
    useProtoFieldName,
    registry,
  }) as JsonObject;
  return int64 === "number" ? withNumbers(schema, json, useProtoFieldName) : json;
}

const wide = new Set<ScalarType | undefined>([
  ScalarType.INT64,
  ScalarType.UINT64,
  ScalarType.SINT64,
  ScalarType.FIXED64,
  ScalarType.SFIXED64,
]);

/** ProtoJSON writes 64-bit numbers as strings; here they become numbers, exact up to 2^53. */
function withNumbers(schema: DescMessage, json: JsonObject, protoNames: boolean): JsonObject {
  for (const field of schema.fields) {
    const name = protoNames ? field.name : field.jsonName;
    const value = json[name];
    if (value !== undefined && value !== null) json[name] = numbersIn(field, value, protoNames);
  }
  return json;
}

function numbersIn(field: DescField, value: JsonValue, protoNames: boolean): JsonValue {
  const one = (item: JsonValue): JsonValue => {
    if (wide.has(field.scalar)) return Number(item);
    const inner = field.message;
    const open = inner && !inner.typeName.startsWith("google.protobuf.");
    return open ? withNumbers(inner, item as JsonObject, protoNames) : item;
  };
  if (field.fieldKind === "list") return (value as JsonValue[]).map(one);
  if (field.fieldKind !== "map") return one(value);
  return Object.fromEntries(
    Object.entries(value as JsonObject).map(([key, item]) => [key, one(item as JsonValue)]),
  );
}
