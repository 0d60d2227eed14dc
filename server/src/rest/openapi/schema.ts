/** Messages of the contract as JSON Schema 2020-12, as ProtoJSON writes them. */
import {
  type DescEnum,
  type DescField,
  type DescMessage,
  type JsonObject,
  ScalarType,
} from "@bufbuild/protobuf";
import comments from "../../gen/comments.json" with { type: "json" };
import type { Spelling } from "../dialect.ts";
import { keywordsOf, rulesOf } from "./rules.ts";

/** What the contract says of a message, field, method or enum, by its full name; empty where it says nothing. */
export function commentOf(name: string): string {
  return (comments as Record<string, string>)[name] ?? "";
}

/** The schemas that a document refers to; each message once for each spelling. */
export class Schemas {
  readonly components: JsonObject = {};

  /** A reference to the schema of a message, which is added where it is missing. */
  message(desc: DescMessage, spelling: Spelling): JsonObject {
    const known = wellKnown[desc.typeName];
    if (known) return known;
    const name =
      componentName(desc.typeName) +
      (spelling.names === "proto" ? "_snake" : spelling.int64 === "number" ? "_plain" : "");
    if (!(name in this.components)) {
      this.components[name] = {}; // ends recursion
      this.components[name] = this.#object(desc, spelling);
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  /** The schema of a message less some of its fields, which stand in the path. */
  messageWithout(desc: DescMessage, spelling: Spelling, without: readonly DescField[]): JsonObject {
    const fields = desc.fields.filter((field) => !without.includes(field));
    return this.#object(desc, spelling, fields);
  }

  /** The schema of one field, with its rules and its comment. */
  field(field: DescField, spelling: Spelling): JsonObject {
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

  #object(desc: DescMessage, spelling: Spelling, fields = desc.fields): JsonObject {
    const required = fields.filter((field) => isRequired(field)).map((field) => nameOf(field, spelling));
    const description = commentOf(desc.typeName);
    return {
      type: "object",
      ...(description && { description }),
      properties: Object.fromEntries(
        fields.map((field) => [nameOf(field, spelling), this.field(field, spelling)]),
      ),
      ...(required.length > 0 && { required }),
      // The systems whose clients call unchanged passed over what they did not know, and so do their dialects.
      ...(spelling.names === "json" && spelling.int64 === "string" && { additionalProperties: false }),
    };
  }

  #value(field: DescField, spelling: Spelling): JsonObject {
    if (field.message) return this.message(field.message, spelling);
    if (field.enum) return enumSchema(field.enum);
    return scalarSchema(field.scalar as ScalarType, spelling);
  }
}

/** Name of a field in a spelling. */
export function nameOf(field: DescField, { names }: Pick<Spelling, "names">): string {
  return names === "proto" ? field.name : field.jsonName;
}

/** Whether a request without the field is refused. */
export function isRequired(field: DescField): boolean {
  const rules = rulesOf(field);
  if (!rules) return false;
  if (rules.required) return true;
  const { minLength, minItems } = keywordsOf(rules);
  return Number(minLength ?? 0) > 0 || Number(minItems ?? 0) > 0 || requiresFormat(field);
}

function requiresFormat(field: DescField): boolean {
  const { format, pattern } = keywordsOf(rulesOf(field));
  if (field.fieldKind !== "scalar" || field.scalar !== ScalarType.STRING) return false;
  return format !== undefined || (typeof pattern === "string" && !new RegExp(pattern, "u").test(""));
}

function merge(schema: JsonObject, keywords: JsonObject | undefined): JsonObject {
  return { ...schema, ...keywords };
}

function componentName(typeName: string): string {
  return typeName.replace(/^pulsewire\.(\w+)\.v\d+\./, "").replaceAll(".", "_");
}

function enumSchema({ values, typeName }: DescEnum): JsonObject {
  const lines = values.map(({ name }) => `- \`${name}\`: ${commentOf(`${typeName}.${name}`)}`);
  return {
    type: "string",
    enum: values.map(({ name }) => name),
    description: [commentOf(typeName), ...lines].join("\n"),
  };
}

function scalarSchema(type: ScalarType, { int64 }: Spelling): JsonObject {
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

/** Messages that ProtoJSON writes in a form of their own. */
const wellKnown: Readonly<Record<string, JsonObject>> = {
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
  "google.protobuf.Duration": { type: "string", pattern: "^-?[0-9]+(\\.[0-9]{1,9})?s$", examples: ["90s"] },
  "google.protobuf.FieldMask": { type: "string", examples: ["name,description"] },
  "google.protobuf.Struct": { type: "object" },
  "google.protobuf.Value": {},
  "google.protobuf.ListValue": { type: "array" },
};
