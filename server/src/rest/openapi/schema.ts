/** Messages of the contract as JSON Schema 2020-12, as ProtoJSON writes them. */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type JsonObject,
  ScalarType,
} from "@bufbuild/protobuf";
import { Ignore } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import comments from "../../gen/comments.json" with { type: "json" };
import type { Dialect, Spelling } from "../dialect.ts";
import { keywordsOf, refusedNumbers, rulesOf } from "./rules.ts";

/** What the contract says of a message, field, method or enum, by its full name; empty where it says nothing. */
export function commentOf(name: string): string {
  return (comments as Record<string, string>)[name] ?? "";
}

/**
 * How a message is written: in the spelling of a dialect, and as it is answered or as it may be sent. What is sent may be looser:
 * ProtoJSON takes null for a field that is not given, a number as a string, and an enum by its number.
 */
export interface Form extends Spelling {
  readonly sent?: boolean;
  /** What a dialect requires besides, and whose it is; see {@link Dialect.required}. */
  readonly requiring?: Pick<Dialect, "name" | "required">;
}

/** The schemas that a document refers to; each message once for each form. */
export class Schemas {
  readonly components: JsonObject = {};

  /** A reference to the schema of a message, which is added where it is missing. */
  message(desc: DescMessage, spelling: Form): JsonObject {
    const known = wellKnown[desc.typeName];
    if (known) return known;
    const name = componentName(desc.typeName) + suffixOf(spelling);
    if (!(name in this.components)) {
      this.components[name] = {}; // ends recursion
      this.components[name] = this.#object(desc, spelling);
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** The schema of a message less some of its fields, which stand in the path. */
  messageWithout(desc: DescMessage, spelling: Form, without: readonly DescField[]): JsonObject {
    const fields = desc.fields.filter((field) => !without.includes(field));
    return this.#object(desc, spelling, fields);
  }

  /** The schema of one field, with its rules and its comment. */
  field(field: DescField, spelling: Form): JsonObject {
    const rules = keywordsOf(rulesOf(field));
    const description = commentOf(`${field.parent.typeName}.${field.name}`);
    const said = description === "" ? {} : { description };
    if (field.fieldKind === "list") {
      const { items, ...own } = rules;
      return {
        type: "array",
        items: merge(this.#value(field, spelling), items as JsonObject | undefined),
        ...own,
        ...said,
      };
    }
    if (field.fieldKind === "map") {
      const { additionalProperties, ...own } = rules;
      const values = merge(this.#value(field, spelling), additionalProperties as JsonObject | undefined);
      return { type: "object", additionalProperties: values, ...own, ...said };
    }
    return { ...merge(this.#value(field, spelling), rules), ...said };
  }

  #object(desc: DescMessage, spelling: Form, fields = desc.fields): JsonObject {
    const required = fields
      .filter((field) => isRequired(field) || requiredBy(field, spelling))
      .map((field) => nameOf(field, spelling));
    const description = commentOf(desc.typeName);
    const clashes = spelling.sent ? desc.oneofs.flatMap((oneof) => pairs(oneof.fields, spelling)) : [];
    return {
      type: "object",
      ...(description && { description }),
      properties: Object.fromEntries(
        fields.map((field) => [nameOf(field, spelling), this.#property(field, spelling)]),
      ),
      ...(required.length > 0 && { required }),
      ...(clashes.length > 0 && { not: { anyOf: clashes } }),
      // The systems whose clients call unchanged passed over what they did not know, and so do their dialects.
      ...(spelling.names === "json" && spelling.int64 === "string" && { additionalProperties: false }),
    };
  }

  #value(field: DescField, spelling: Form): JsonObject {
    if (field.message) return this.message(field.message, spelling);
    if (field.enum) return enumSchema(field.enum, refusedNumbers(rulesOf(field)));
    return scalarSchema(field.scalar as ScalarType, spelling);
  }

  /** A field of what is sent, with what ProtoJSON takes besides. */
  #property(field: DescField, spelling: Form): JsonObject {
    const schema = this.field(field, spelling);
    if (!spelling.sent || isRequired(field)) return schema;
    if (requiredBy(field, spelling))
      return field.scalar === ScalarType.STRING ? { ...schema, minLength: 1 } : schema;
    const { description, ...value } = schema;
    const besides: JsonObject[] = [{ type: "null" }];
    const single = field.fieldKind === "scalar" || field.fieldKind === "enum";
    if (single && value.type === "integer") besides.push({ type: "string", pattern: "^-?[0-9]+$" });
    if (single && value.type === "number") besides.push({ type: "string", pattern: number });
    if (single && (field.enum || value.format === "int64" || value.format === "uint64"))
      besides.push({ type: "integer" });
    return { ...(description && { description }), anyOf: [value, ...besides] };
  }
}

/** Name of a field in a spelling. */
export function nameOf(field: DescField, { names }: Pick<Spelling, "names">): string {
  return names === "proto" ? field.name : field.jsonName;
}

/** Whether a request without the field is refused. */
export function isRequired(field: DescField): boolean {
  const rules = rulesOf(field);
  if (!rules || field.oneof) return false;
  if (rules.required) return true;
  if (field.fieldKind === "enum" && rules.ignore === Ignore.UNSPECIFIED && refusedNumbers(rules).includes(0))
    return true;
  const { minLength, minItems } = keywordsOf(rules);
  return Number(minLength ?? 0) > 0 || Number(minItems ?? 0) > 0 || requiresFormat(field);
}

function requiredBy({ parent, name }: DescField, { requiring }: Form): boolean {
  return requiring?.required?.[parent.typeName]?.includes(name) ?? false;
}

/** Each two of these fields: only one of them may be given. A scalar of null is not given, a message of null is. */
function pairs(fields: readonly DescField[], spelling: Form): JsonObject[] {
  const given = (field: DescField) =>
    field.fieldKind === "message" ? {} : { [nameOf(field, spelling)]: { not: { type: "null" } } };
  return fields.flatMap((one, index) =>
    fields.slice(index + 1).map((other) => ({
      properties: { ...given(one), ...given(other) },
      required: [nameOf(one, spelling), nameOf(other, spelling)],
    })),
  );
}

function requiresFormat(field: DescField): boolean {
  const { format, pattern } = keywordsOf(rulesOf(field));
  if (field.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING) return false;
  return format !== undefined || (typeof pattern === "string" && !new RegExp(pattern, "u").test(""));
}

function suffixOf({ names, int64, sent, requiring }: Form): string {
  const spelled = requiring?.required
    ? `_${requiring.name.replaceAll("-", "_")}`
    : names === "proto"
      ? "_snake"
      : int64 === "number"
        ? "_plain"
        : "";
  return spelled + (sent ? "_sent" : "");
}

function merge(schema: JsonObject, keywords: JsonObject | undefined): JsonObject {
  return { ...schema, ...keywords };
}

function componentName(typeName: string): string {
  return typeName.replace(/^pulsewire\.(\w+)\.v\d+\./, "").replaceAll(".", "_");
}

function enumSchema({ values: all, typeName }: DescEnum, refused: readonly number[]): JsonObject {
  const values = all.filter(({ number }) => !refused.includes(number));
  const lines = values.map(({ name }) => `- \`${name}\`: ${commentOf(`${typeName}.${name}`)}`);
  return {
    type: "string",
    enum: values.map(({ name }) => name),
    description: [commentOf(typeName), ...lines].join("\n"),
  };
}

function scalarSchema(type: ScalarType, { int64 }: Form): JsonObject {
  switch (type) {
    case ScalarType.STRING:
      return { type: "string" };
    case ScalarType.BYTES:
      return { type: "string", contentEncoding: "base64" };
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { type: "number" };
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
      return int64 === "number"
        ? { type: "integer" }
        : { type: "string", format: "int64", pattern: "^-?[0-9]+$" };
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return int64 === "number"
        ? { type: "integer", minimum: 0 }
        : { type: "string", format: "uint64", pattern: "^[0-9]+$" };
    case ScalarType.UINT32:
    case ScalarType.FIXED32:
      return { type: "integer", minimum: 0, maximum: 4_294_967_295 };
    default:
      return { type: "integer", minimum: -2_147_483_648, maximum: 2_147_483_647 };
  }
}

/** A floating-point number as a string of ProtoJSON. */
const number = "^(NaN|-?Infinity|-?[0-9]{1,15}(\\.[0-9]{1,15})?)$";

/** Messages that ProtoJSON writes in a form of their own. */
const wellKnown: Readonly<Record<string, JsonObject>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: "^-?[0-9]+(\\.[0-9]{1,9})?s$", examples: ["90s"] },
  "google.protobuf.FieldMask": { type: "string" },
  "google.protobuf.Struct": { type: "object" },
  "google.protobuf.Value": {},
  "google.protobuf.ListValue": { type: "array" },
};
