/** Enum words of the dialects: their own (`info`, `Running`) and the contract's (`SEVERITY_INFO`), both ways. */
import type { DescEnum, JsonValue } from "@bufbuild/protobuf";
import { invalidField } from "../rpc/errors.ts";

/** `SEVERITY_INFO` → `info`. */
export function lowerWord(schema: DescEnum, name: JsonValue | undefined): string {
  return bare(schema, name).toLowerCase();
}

/** `FUNCTION_STATUS_RUNNING` → `Running`. */
export function capitalWord(schema: DescEnum, name: JsonValue | undefined): string {
  const word = lowerWord(schema, name);
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** `info`, `INFO` or `SEVERITY_INFO` → `SEVERITY_INFO`. Throws INVALID_FIELD for a word that there is not. */
export function enumName(schema: DescEnum, word: JsonValue, field: string): string {
  const upper = String(word).toUpperCase();
  const value = schema.values.find(({ name }) => name === upper || bare(schema, name) === upper);
  if (value) return value.name;
  const words = schema.values.slice(1).map(({ name }) => lowerWord(schema, name));
  throw invalidField(field, `must be one of ${words.join(", ")}`, "enum.defined_only");
}

function bare({ sharedPrefix = "" }: DescEnum, name: JsonValue | undefined): string {
  return String(name ?? "").slice(sharedPrefix.length);
}
