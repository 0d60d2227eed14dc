import type { JsonValue } from "@bufbuild/protobuf";

/** What a value in a Struct takes at most beside its text: tags, lengths and a number of eight bytes. */
const valueBytes = 24;

/**
 * Whether a value of a Struct certainly encodes to fewer bytes than `budget`, without encoding it. Returns what is left of
 * the budget; negative: not certain.
 */
export function budgetAfter(value: JsonValue | undefined, budget: number): number {
  let left = budget - valueBytes;
  // A UTF-16 unit takes at most three bytes.
  if (typeof value === "string") return left - 3 * value.length;
  if (typeof value !== "object" || value === null) return left;
  if (Array.isArray(value)) {
    for (const item of value) {
      if (left < 0) return left;
      left = budgetAfter(item, left);
    }
    return left;
  }
  for (const key in value) {
    if (left < 0) return left;
    left = budgetAfter(value[key], left - 3 * key.length - valueBytes);
  }
  return left;
}
