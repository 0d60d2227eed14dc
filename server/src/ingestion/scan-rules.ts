/** What the scan of events knows of the contract's rules, read from the descriptors once. */
import { type DescField, type DescMessage, getOption, hasOption, isFieldSet } from "@bufbuild/protobuf";
import {
  type FieldRules,
  field as fieldRules,
  Ignore,
  StringRulesSchema,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** What a byte of a text says about it. */
export const byteClass = { undecided: 0, plain: 1, beyondAscii: 2 } as const;

/** A text that certainly keeps its rules: at most so many bytes, each of a class that is not `undecided`. */
export interface TextRule {
  readonly maxBytes: number;
  readonly classes: Uint8Array;
}

/** U+0000 is left to the full check, whatever the field: PostgreSQL cannot store it. */
const plainClasses = classesOf((byte) =>
  byte === 0 ? byteClass.undecided : byte < 0x80 ? byteClass.plain : byteClass.beyondAscii,
);

/** Texts without rules of their own, such as those in a Struct. */
export const plainText: TextRule = { maxBytes: Number.POSITIVE_INFINITY, classes: plainClasses };

function classesOf(classOf: (byte: number) => number): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => classOf(byte));
}

/**
 * The rule of a string field. The rules count code points, of which a text has at most as many as bytes. Throws for a
 * rule that is not known here: then the scan must learn it first.
 */
export function textRule(field: DescField, rules: FieldRules | undefined = rulesOf(field)): TextRule {
  if (!rules) return plainText;
  if (rules.type.case !== "string") throw unknownRule(field);
  const text = rules.type.value;
  for (const rule of StringRulesSchema.fields) {
    // An empty text never reaches the scan: it is not written, or left to the full check.
    const known =
      rule.name === "max_len" || rule.name === "pattern" || (rule.name === "min_len" && text.minLen <= 1n);
    if (!known && isFieldSet(text, rule)) throw unknownRule(field);
  }
  const maxBytes = isFieldSet(text, StringRulesSchema.field.maxLen)
    ? Number(text.maxLen)
    : Number.POSITIVE_INFINITY;
  if (!text.pattern) return { maxBytes, classes: plainClasses };
  // One class of characters from end to end can be decided character by character.
  const [, negated] = /^\^\[(\^?)(?:\\x[0-9a-f]{2}(?:-\\x[0-9a-f]{2})?)+\]\+\$$/.exec(text.pattern) ?? [];
  if (negated === undefined) throw unknownRule(field);
  const pattern = new RegExp(text.pattern, "u");
  const classes = classesOf((byte) => {
    if (byte >= 0x80) return negated ? byteClass.beyondAscii : byteClass.undecided;
    return byte > 0 && pattern.test(String.fromCharCode(byte)) ? byteClass.plain : byteClass.undecided;
  });
  return { maxBytes, classes };
}

/** The field's rules; undefined where it has none. Throws for rules that reach beyond the field's own type. */
export function rulesOf(field: DescField): FieldRules | undefined {
  if (!hasOption(field, fieldRules)) return undefined;
  const rules = getOption(field, fieldRules);
  assertPlain(field, rules);
  return rules;
}

function assertPlain(field: DescField, rules: FieldRules): void {
  const plain =
    rules.cel.length === 0 &&
    rules.celExpression.length === 0 &&
    !rules.required &&
    (rules.ignore === Ignore.UNSPECIFIED || rules.ignore === Ignore.IF_ZERO_VALUE) &&
    !rules.$unknown;
  if (!plain) throw unknownRule(field);
}

/** The largest value of an integer field whose rule is a range from 0. */
export function largestInt(field: DescField): number {
  const rules = rulesOf(field)?.type;
  if (rules?.case !== "int32") throw unknownRule(field);
  const { greaterThan, lessThan } = rules.value;
  if (greaterThan.case !== "gte" || greaterThan.value !== 0 || lessThan.case !== "lte")
    throw unknownRule(field);
  return lessThan.value;
}

/** The largest value of an enum field whose values, without gaps from 0, are the only ones allowed. */
export function largestEnum(field: DescField): number {
  const rules = rulesOf(field)?.type;
  if (!field.enum || rules?.case !== "enum" || !rules.value.definedOnly) throw unknownRule(field);
  const { values } = field.enum;
  if (values.some(({ number }, index) => number !== index)) throw unknownRule(field);
  return values.length - 1;
}

/** The rules of a map of finite numbers by name. */
export function numbersRule(field: DescField): { readonly maxPairs: number; readonly name: TextRule } {
  const rules = rulesOf(field)?.type;
  if (rules?.case !== "map" || rules.value.minPairs || !rules.value.keys || !rules.value.values) {
    throw unknownRule(field);
  }
  const { keys, values, maxPairs } = rules.value;
  assertPlain(field, keys);
  assertPlain(field, values);
  if (values.type.case !== "double" || !values.type.value.finite) throw unknownRule(field);
  return { maxPairs: Number(maxPairs), name: textRule(field, keys) };
}

/** Throws unless the field is a Timestamp from 1970 on. */
export function assertSince1970(field: DescField): void {
  const rules = rulesOf(field)?.type;
  const from = rules?.case === "timestamp" ? rules.value.greaterThan : undefined;
  if (from?.case !== "gte" || from.value.seconds !== 0n || from.value.nanos !== 0) throw unknownRule(field);
}

/** Throws where a field has rules. */
export function assertNoRules(field: DescField): void {
  if (rulesOf(field)) throw unknownRule(field);
}

/** The rules of a message that holds nothing but texts, by field number. */
export function textRules(schema: DescMessage): ReadonlyMap<number, TextRule> {
  return new Map(schema.fields.map((field) => [field.number, textRule(field)]));
}

function unknownRule(field: DescField): Error {
  return new Error(`the scan of events does not know the rules of ${field.parent.typeName}.${field.name}`);
}
