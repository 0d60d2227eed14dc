/** Values and attributes of OpenTelemetry in the forms that we keep. */
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { AnyValue, KeyValue } from "../../gen/opentelemetry/proto/common/v1/common_pb.js";

/** As JSON; whole numbers that JSON cannot hold exactly, and bytes (as base64), are texts. */
export function toJsonValue(any: AnyValue | undefined): JsonValue {
  const value = any?.value;
  switch (value?.case) {
    case "stringValue":
    case "boolValue":
      return value.value;
    case "doubleValue":
      return Number.isFinite(value.value) ? value.value : String(value.value);
    case "intValue": {
      const number = Number(value.value);
      return Number.isSafeInteger(number) ? number : String(value.value);
    }
    case "bytesValue":
      return Buffer.from(value.value).toString("base64");
    case "arrayValue":
      return value.value.values.map(toJsonValue);
    case "kvlistValue":
      return attributesOf(value.value.values);
    default:
      return null;
  }
}

export function attributesOf(attributes: readonly KeyValue[]): JsonObject {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, toJsonValue(value)]));
}

/** As a text: what is no text is written as JSON. */
export function textOf(value: JsonValue | undefined): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Milliseconds since 1970; undefined where no time is given. */
export function timeMs(unixNano: bigint): number | undefined {
  return unixNano === 0n ? undefined : Number(unixNano / 1_000_000n);
}
