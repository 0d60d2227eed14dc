/** Enum words of the dialects: their own (`info`, `Running`) and the contract's (`SEVERITY_INFO`), both ways. */
import type { DescEnum, JsonValue } from "@bufbuild/protobuf";

/** `SEVERITY_INFO` → `info`. */
export function lowerWord(schema: DescEnum, name: JsonValue | undefined): string {
  return bare(schema, name).toLowerCase();
}

/** `FUNCTION_STATUS_RUNNING` → `Running`. */
export function capitalWord(schema: DescEnum, name: JsonValue | undefined): string {
  const word = lowerWord(schema, name);
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** `info`, `INFO` or `SEVERITY_INFO` → `SEVERITY_INFO`; anything else stays as it is, to be refused with its name. */
export function enumName(schema: DescEnum, word: JsonValue | undefined): JsonValue | undefined {
  if (typeof word !== "string") return word;
  const upper = word.toUpperCase();
  return schema.values.find(({ name }) => name === upper || bare(schema, name) === upper)?.name ?? word;
}

function bare({ sharedPrefix = "" }: DescEnum, name: JsonValue | undefined): string {
  return String(name ?? "").slice(sharedPrefix.length);
}
