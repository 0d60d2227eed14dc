/** The field rules of the contract (protovalidate) as keywords of JSON Schema, as far as these can say them. */
import { type DescField, getOption, hasOption, type JsonObject } from "@bufbuild/protobuf";
import {
  type FieldRules,
  field as fieldRules,
  Ignore,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

/** The rules of a field; undefined where it has none. */
export function rulesOf(field: DescField): FieldRules | undefined {
  return hasOption(field, fieldRules) ? getOption(field, fieldRules) : undefined;
}

/** Keywords for a value under these rules. */
export function keywordsOf(rules: FieldRules | undefined): JsonObject {
  if (!rules || rules.ignore === Ignore.ALWAYS) return {};
  const { type } = rules;
  // An empty value counts as not given: what a rule says is then not asked.
  const mayBeEmpty = rules.ignore === Ignore.IF_ZERO_VALUE;
  switch (type.case) {
    case "string": {
      const { minLen, maxLen, len, pattern, in: words, prefix, wellKnown } = type.value;
      const format = formats[wellKnown.case ?? ""];
      return defined({
        minLength: mayBeEmpty ? undefined : small(minLen ?? len),
        maxLength: small(maxLen ?? len),
        pattern: orEmpty(
          pattern || (prefix && `^${prefix}`) || (mayBeEmpty ? patterns[format ?? ""] : ""),
          mayBeEmpty,
        ),
        format: mayBeEmpty ? undefined : format,
        enum: words.length > 0 ? [...words] : undefined,
      });
    }
    case "int32":
    case "uint32":
    case "int64":
    case "uint64":
    case "double":
    case "float": {
      const { greaterThan, lessThan } = type.value as Bounds;
      const low = greaterThan.value === undefined ? undefined : Number(greaterThan.value);
      const high = lessThan.value === undefined ? undefined : Number(lessThan.value);
      return defined({
        minimum: greaterThan.case === "gte" ? (mayBeEmpty ? Math.min(0, low ?? 0) : low) : undefined,
        exclusiveMinimum: greaterThan.case === "gt" ? low : undefined,
        maximum: lessThan.case === "lte" ? high : undefined,
        exclusiveMaximum: lessThan.case === "lt" ? high : undefined,
      });
    }
    case "repeated": {
      const { minItems, maxItems, unique, items } = type.value;
      return defined({
        minItems: mayBeEmpty ? undefined : small(minItems),
        maxItems: small(maxItems),
        uniqueItems: unique || undefined,
        items: items ? keywordsOf(items) : undefined,
      });
    }
    case "map": {
      const { minPairs, maxPairs, keys, values } = type.value;
      return defined({
        minProperties: small(minPairs),
        maxProperties: small(maxPairs),
        propertyNames: keys ? keywordsOf(keys) : undefined,
        additionalProperties: values ? keywordsOf(values) : undefined,
      });
    }
    case "fieldMask": {
      const { in: paths } = type.value;
      if (paths.length === 0) return {};
      const names = paths.map((path) =>
        path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      );
      const any = `(${names.join("|")})`;
      return defined({ pattern: orEmpty(`^${any}(,${any})*$`, mayBeEmpty), examples: [names.join()] });
    }
    default:
      return {};
  }
}

/** The numbers of an enum that are refused, in a field or in the items of a list. */
export function refusedNumbers(rules: FieldRules | undefined): readonly number[] {
  const own = rules?.type.case === "repeated" ? rules.type.value.items : rules;
  return own?.type.case === "enum" ? own.type.value.notIn : [];
}

interface Bounds {
  readonly greaterThan: { readonly case: "gt" | "gte" | undefined; readonly value?: number | bigint };
  readonly lessThan: { readonly case: "lt" | "lte" | undefined; readonly value?: number | bigint };
}

const formats: Readonly<Record<string, string>> = {
  uuid: "uuid",
  email: "email",
  uri: "uri",
  hostname: "hostname",
};

/** Formats that an empty value must be let past. */
const patterns: Readonly<Record<string, string>> = {
  uuid: "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
  email: "^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,60}\\.[A-Za-z]{2,20}$",
};

const small = (value: bigint | undefined) =>
  value === undefined || value === 0n ? undefined : Number(value);

function orEmpty(pattern: string | undefined, mayBeEmpty: boolean): string | undefined {
  if (!pattern) return undefined;
  return mayBeEmpty ? `^$|${pattern}` : pattern;
}

function defined(keywords: Record<string, JsonObject[string] | undefined>): JsonObject {
  return Object.fromEntries(
    Object.entries(keywords).filter((entry): entry is [string, JsonObject[string]] => entry[1] !== undefined),
  );
}
