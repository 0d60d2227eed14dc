/**
 * A quick first look at a message: true means that it keeps every rule of the contract, false that protovalidate has to
 * decide. Compiled once from the same rules that protovalidate reads, without its reflection: messages are almost always
 * valid, and this finds so in a twentieth of the time. A rule that is not known here makes every message "false".
 */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  getOption,
  hasOption,
  isFieldSet,
} from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import {
  type FieldRules,
  field as fieldRules,
  Ignore,
  message as messageRules,
  oneof as oneofRules,
  type StringRules,
  StringRulesSchema,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

type Check = (value: unknown) => boolean;
type Fields = Record<string, unknown>;

const checks = new Map<DescMessage, Check>();

/** Whether the message certainly keeps all rules. */
export function certainlyValid(schema: DescMessage, message: object): boolean {
  let check = checks.get(schema);
  if (!check) {
    check = compile(schema, new Set()) ?? (() => true);
    checks.set(schema, check);
  }
  return check(message);
}

const undecided: Check = () => false;

/** The check of a message; undefined when no rule lies in it or below it. */
function compile(schema: DescMessage, above: ReadonlySet<DescMessage>): Check | undefined {
  // A message that holds itself is known only where no rule lies in the circle, as with Struct.
  if (above.has(schema)) return hasRules(schema, new Set()) ? undecided : undefined;
  if (hasOption(schema, messageRules) || schema.oneofs.some((oneof) => hasOption(oneof, oneofRules)))
    return undecided;
  const within = new Set(above).add(schema);
  const list = schema.fields
    .map((field) => compileField(field, within))
    .filter((check) => check !== undefined);
  if (list.length === 0) return undefined;
  return (message) => {
    for (const check of list) if (!check(message as Fields)) return false;
    return true;
  };
}

function hasRules(schema: DescMessage, seen: Set<DescMessage>): boolean {
  if (seen.has(schema)) return false;
  seen.add(schema);
  return (
    hasOption(schema, messageRules) ||
    schema.oneofs.some((oneof) => hasOption(oneof, oneofRules)) ||
    schema.fields.some(
      (field) => hasOption(field, fieldRules) || (field.message && hasRules(field.message, seen)),
    )
  );
}

function compileField(field: DescField, above: ReadonlySet<DescMessage>): Check | undefined {
  const rules = hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
  if (rules?.ignore === Ignore.ALWAYS) return undefined;
  if (rules && (rules.cel.length > 0 || rules.celExpression.length > 0)) return undecided;
  if (field.oneof)
    return rules || (field.message && hasRules(field.message, new Set())) ? undecided : undefined;
  const check = checkOf(field, rules, above);
  const required = rules?.required ?? false;
  if (!check && !required) return undefined;
  const name = field.localName;
  const mayBeEmpty = !required && rules?.ignore === Ignore.IF_ZERO_VALUE;
  return (message) => {
    const value = (message as Fields)[name];
    // Without presence an empty value counts as not set.
    if (value === undefined) return !required;
    if (value === "" || value === 0 || value === 0n || value === false) {
      if (required) return false;
      if (mayBeEmpty) return true;
    }
    return check ? check(value) : field.fieldKind === "message" || field.fieldKind === "scalar";
  };
}

function checkOf(
  field: DescField,
  rules: FieldRules | undefined,
  above: ReadonlySet<DescMessage>,
): Check | undefined {
  switch (field.fieldKind) {
    case "scalar":
      return scalarCheck(rules);
    case "enum":
      return enumCheck(field.enum, rules);
    case "message":
      return messageCheck(field.message, rules, above);
    case "list":
      return listCheck(field, rules, above);
    case "map":
      return mapCheck(field, rules, above);
  }
}

function scalarCheck(rules: FieldRules | undefined): Check | undefined {
  switch (rules?.type.case) {
    case undefined:
      return undefined;
    case "string":
      return stringCheck(rules.type.value);
    case "double":
    case "int32":
    case "uint32":
    case "int64":
    case "uint64":
      return numberCheck(rules.type.value);
    default:
      return undecided;
  }
}

const knownStringRules = new Set(["min_len", "max_len", "pattern"]);

function stringCheck(rules: StringRules): Check {
  if (!knowsAll(StringRulesSchema.fields, rules, knownStringRules)) return undecided;
  // The rules count code points, of which a string has at least half as many as units.
  const min = isFieldSet(rules, StringRulesSchema.field.minLen) ? 2 * Number(rules.minLen) - 1 : 0;
  const max = isFieldSet(rules, StringRulesSchema.field.maxLen)
    ? Number(rules.maxLen)
    : Number.POSITIVE_INFINITY;
  const pattern = isFieldSet(rules, StringRulesSchema.field.pattern)
    ? // As the validator itself matches them.
      new RegExp(rules.pattern, "u")
    : undefined;
  return (value) => {
    const { length } = value as string;
    return length >= min && length <= max && (pattern?.test(value as string) ?? true);
  };
}

interface NumberRules {
  $typeName: string;
  greaterThan: { case: string | undefined; value?: unknown };
  lessThan: { case: string | undefined; value?: unknown };
  const: unknown;
  in: readonly unknown[];
  notIn: readonly unknown[];
  finite?: boolean;
  $unknown?: unknown;
}

function numberCheck(given: object): Check {
  const rules = given as NumberRules;
  if (rules.in.length > 0 || rules.notIn.length > 0 || rules.$unknown || Object.hasOwn(rules, "const"))
    return undecided;
  const { greaterThan, lessThan } = rules;
  const [low, high] = [greaterThan.value as number, lessThan.value as number];
  // With the bounds crossed the rule means the outside.
  if (low !== undefined && high !== undefined && low >= high) return undecided;
  const open = [greaterThan.case, lessThan.case].some((bound) => bound === "gt" || bound === "lt");
  return (value) => {
    const number = value as number;
    if (typeof number === "number" && !Number.isFinite(number)) return false;
    if (low !== undefined && !(number > low || (number === low && !open))) return false;
    return high === undefined || number < high || (number === high && !open);
  };
}

function enumCheck({ value }: DescEnum, rules: FieldRules | undefined): Check | undefined {
  if (!rules || rules.type.case === undefined) return undefined;
  if (rules.type.case !== "enum") return undecided;
  const { definedOnly, in: allowed, notIn, $unknown } = rules.type.value;
  if (allowed.length > 0 || notIn.length > 0 || $unknown || Object.hasOwn(rules.type.value, "const"))
    return undecided;
  return definedOnly ? (number) => value[number as number] !== undefined : undefined;
}

function messageCheck(
  schema: DescMessage,
  rules: FieldRules | undefined,
  above: ReadonlySet<DescMessage>,
): Check | undefined {
  if (rules?.type.case === undefined) return compile(schema, above);
  if (rules.type.case !== "timestamp" || schema.typeName !== TimestampSchema.typeName) return undecided;
  const { lessThan, greaterThan, within, $unknown } = rules.type.value;
  const since =
    greaterThan.case === "gte" && greaterThan.value.nanos === 0 ? greaterThan.value.seconds : undefined;
  if (
    lessThan.case ||
    within ||
    $unknown ||
    Object.hasOwn(rules.type.value, "const") ||
    since === undefined
  ) {
    return undecided;
  }
  // Nanoseconds only ever add.
  return (value) => {
    const { seconds, nanos } = value as { seconds: bigint; nanos: number };
    return seconds >= since && nanos >= 0;
  };
}

function listCheck(
  field: DescField & { fieldKind: "list" },
  rules: FieldRules | undefined,
  above: ReadonlySet<DescMessage>,
): Check | undefined {
  if (rules && rules.type.case !== undefined && rules.type.case !== "repeated") return undecided;
  const repeated = rules?.type.case === "repeated" ? rules.type.value : undefined;
  if (repeated?.unique || repeated?.$unknown) return undecided;
  const min = Number(repeated?.minItems ?? 0);
  const max = repeated?.maxItems ? Number(repeated.maxItems) : Number.POSITIVE_INFINITY;
  const item = itemCheck(field, repeated?.items, above);
  if (!item && min === 0 && max === Number.POSITIVE_INFINITY) return undefined;
  return (value) => {
    const list = value as unknown[];
    return list.length >= min && list.length <= max && (!item || list.every(item));
  };
}

function mapCheck(
  field: DescField & { fieldKind: "map" },
  rules: FieldRules | undefined,
  above: ReadonlySet<DescMessage>,
): Check | undefined {
  if (rules && rules.type.case !== undefined && rules.type.case !== "map") return undecided;
  const map = rules?.type.case === "map" ? rules.type.value : undefined;
  if (map?.$unknown) return undecided;
  const min = Number(map?.minPairs ?? 0);
  const max = map?.maxPairs ? Number(map.maxPairs) : Number.POSITIVE_INFINITY;
  const key = map?.keys && plainCheck(map.keys);
  const item = itemCheck(field, map?.values, above);
  if (!key && !item && min === 0 && max === Number.POSITIVE_INFINITY) return undefined;
  return (value) => {
    let count = 0;
    for (const name in value as Fields) {
      count++;
      if (key && !key(name)) return false;
      if (item && !item((value as Fields)[name])) return false;
    }
    return count >= min && count <= max;
  };
}

function itemCheck(
  field: DescField & { fieldKind: "list" | "map" },
  rules: FieldRules | undefined,
  above: ReadonlySet<DescMessage>,
): Check | undefined {
  if (rules?.ignore === Ignore.ALWAYS) return undefined;
  if (
    rules &&
    (rules.ignore !== Ignore.UNSPECIFIED || rules.cel.length > 0 || rules.celExpression.length > 0)
  ) {
    return undecided;
  }
  if (field.message) return messageCheck(field.message, rules, above);
  if (field.enum) return enumCheck(field.enum, rules);
  return scalarCheck(rules);
}

/** Keys are strings here, whatever they are in the contract. */
function plainCheck(rules: FieldRules): Check {
  if (rules.ignore !== Ignore.UNSPECIFIED || rules.cel.length > 0 || rules.celExpression.length > 0)
    return undecided;
  return rules.type.case === "string" ? stringCheck(rules.type.value) : undecided;
}

function knowsAll(fields: readonly DescField[], rules: StringRules, known: ReadonlySet<string>): boolean {
  return !rules.$unknown && fields.every((field) => known.has(field.name) || !isFieldSet(rules, field));
}
