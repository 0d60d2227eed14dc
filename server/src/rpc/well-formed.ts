/** What every request must satisfy beyond the field rules of the contract, whatever the field. */
import { type DescField, type DescMessage, getOption, hasOption, ScalarType } from "@bufbuild/protobuf";
import { type Duration, DurationSchema, type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import { field as fieldRules, Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import type { FieldViolation } from "./errors.ts";

/** Checks a value and adds what is wrong with it. */
type Check = (value: unknown, path: string, violations: FieldViolation[]) => void;

interface FieldCheck {
  readonly name: string;
  /** Where the value is in the message. */
  read(message: Record<string, unknown>): unknown;
  readonly check: Check;
}

const checks = new WeakMap<DescMessage, readonly FieldCheck[]>();

/**
 * Texts must not hold U+0000, which PostgreSQL cannot store; timestamps and durations must lie within the range that
 * their types define: years 1 to 9999, and 10,000 years. Items that the contract leaves to the handler are left out.
 */
export function illFormedFields(schema: DescMessage, message: object): FieldViolation[] {
  const violations: FieldViolation[] = [];
  checkMessage(schema, message, "", violations);
  return violations;
}

function checkMessage(
  schema: DescMessage,
  message: object,
  path: string,
  violations: FieldViolation[],
): void {
  for (const { name, read, check } of checksOf(schema)) {
    const value = read(message as Record<string, unknown>);
    if (value !== undefined && value !== "") check(value, path ? `${path}.${name}` : name, violations);
  }
}

function checksOf(schema: DescMessage): readonly FieldCheck[] {
  let found = checks.get(schema);
  if (!found) {
    found = schema.fields.flatMap((field) => {
      const check = checkOf(field);
      return check ? [{ name: field.name, read: readerOf(field), check }] : [];
    });
    checks.set(schema, found);
  }
  return found;
}

function readerOf({ localName, oneof }: DescField): FieldCheck["read"] {
  if (!oneof) return (message) => message[localName];
  const group = oneof.localName;
  return (message) => {
    const chosen = message[group] as { case?: string; value?: unknown };
    return chosen.case === localName ? chosen.value : undefined;
  };
}

function checkOf(field: DescField): Check | undefined {
  switch (field.fieldKind) {
    case "scalar":
      return field.scalar === ScalarType.STRING ? checkText : undefined;
    case "message":
      return checkOfMessage(field.message);
    case "list": {
      if (isLeftToHandler(field)) return undefined;
      const item =
        field.listKind === "message"
          ? checkOfMessage(field.message)
          : field.listKind === "scalar" && field.scalar === ScalarType.STRING
            ? checkText
            : undefined;
      return (
        item &&
        ((list, path, violations) => {
          const { length } = list as unknown[];
          for (let index = 0; index < length; index++)
            item((list as unknown[])[index], `${path}[${index}]`, violations);
        })
      );
    }
    case "map": {
      const value =
        field.mapKind === "message"
          ? checkOfMessage(field.message)
          : field.mapKind === "scalar" && field.scalar === ScalarType.STRING
            ? checkText
            : undefined;
      const key = field.mapKey === ScalarType.STRING ? checkText : undefined;
      if (!key && !value) return undefined;
      return (map, path, violations) => {
        for (const name in map as Record<string, unknown>) {
          const entry = `${path}[${JSON.stringify(name)}]`;
          key?.(name, entry, violations);
          value?.((map as Record<string, unknown>)[name], entry, violations);
        }
      };
    }
    default:
      return undefined;
  }
}

function isLeftToHandler(field: DescField): boolean {
  if (!hasOption(field, fieldRules)) return false;
  const { type } = getOption(field, fieldRules);
  return type.case === "repeated" && type.value.items?.ignore === Ignore.ALWAYS;
}

function checkOfMessage(schema: DescMessage): Check {
  switch (schema.typeName) {
    case TimestampSchema.typeName:
      return checkTimestamp;
    case DurationSchema.typeName:
      return checkDuration;
    case "google.protobuf.Struct":
      return checkJson;
    default:
      return (message, path, violations) => checkMessage(schema, message as object, path, violations);
  }
}

const checkText: Check = (value, path, violations) => {
  if (!(value as string).includes("\0")) return;
  violations.push({ field: path, description: "must not hold the character U+0000", rule: "string.no_nul" });
};

/** Struct fields are plain JSON objects. */
const checkJson: Check = (value, path, violations) => {
  if (typeof value === "string") checkText(value, path, violations);
  else if (Array.isArray(value))
    value.forEach((item, index) => void checkJson(item, `${path}[${index}]`, violations));
  else if (typeof value === "object" && value !== null) {
    for (const name in value) {
      checkText(name, path, violations);
      checkJson((value as Record<string, unknown>)[name], `${path}.${name}`, violations);
    }
  }
};

const year1 = -62_135_596_800n;
const year10000 = 253_402_300_800n;
const secondsOf10000Years = 315_576_000_000n;
const nanosOfSecond = 1_000_000_000;

const checkTimestamp: Check = (value, path, violations) => {
  const { seconds, nanos } = value as Timestamp;
  if (seconds >= year1 && seconds < year10000 && nanos >= 0 && nanos < nanosOfSecond) return;
  violations.push({ field: path, description: "must lie in the years 1 to 9999", rule: "timestamp.valid" });
};

const checkDuration: Check = (value, path, violations) => {
  const { seconds, nanos } = value as Duration;
  const inRange =
    seconds >= -secondsOf10000Years && seconds <= secondsOf10000Years && Math.abs(nanos) < nanosOfSecond;
  if (inRange && (seconds === 0n || nanos === 0 || seconds > 0n === nanos > 0)) return;
  violations.push({ field: path, description: "must be within 10,000 years", rule: "duration.valid" });
};
