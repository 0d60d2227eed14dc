import { type DescMessage, type JsonObject, ScalarType } from "@bufbuild/protobuf";

/** A string field anywhere in a request. */
export interface StringField {
  /** Its own name. */
  readonly name: string;
  /** The path in the contract's words, such as `filter.user_id`. */
  readonly path: string;
  readonly isRepeated: boolean;
  /** The other fields of its oneof are not set with it. */
  readonly oneof: string | undefined;
  /** A copy of the request with the field set. */
  set(request: JsonObject, value: string): JsonObject;
  /** Whether the request has it. */
  isIn(request: JsonObject): boolean;
}

/** All string fields of a message and the messages in it, keys and values of maps left out. */
export function stringFields(schema: DescMessage): StringField[] {
  return walk(schema, [], undefined, new Set());
}

interface Step {
  readonly name: string;
  readonly jsonName: string;
  readonly isList: boolean;
  readonly siblings: readonly string[];
}

function walk(
  schema: DescMessage,
  steps: readonly Step[],
  oneof: string | undefined,
  above: ReadonlySet<DescMessage>,
): StringField[] {
  if (above.has(schema) || schema.typeName.startsWith("google.protobuf.")) return [];
  return schema.fields.flatMap((field) => {
    const siblings = field.oneof?.fields.filter((other) => other !== field) ?? [];
    const isList = field.fieldKind === "list";
    const { name, jsonName } = field;
    const path = [...steps, { name, jsonName, isList, siblings: siblings.map((other) => other.jsonName) }];
    const inOneof = field.oneof ? `${steps.map((step) => step.name).join(".")}/${field.oneof.name}` : oneof;
    if (field.message) return walk(field.message, path, inOneof, new Set([...above, schema]));
    const kind = field.fieldKind === "scalar" || isList ? field.scalar : undefined;
    if (kind !== ScalarType.STRING) return [];
    return [
      {
        name,
        path: path.map((step) => step.name).join("."),
        isRepeated: path.some((step) => step.isList),
        oneof: inOneof,
        set: (request: JsonObject, value: string) => put(request, path, value),
        isIn: (request: JsonObject) => has(request, path),
      },
    ];
  });
}

function put(request: JsonObject, [step, ...rest]: readonly Step[], value: string): JsonObject {
  if (!step) return request;
  const copy = Object.fromEntries(Object.entries(request).filter(([name]) => !step.siblings.includes(name)));
  const given = request[step.jsonName];
  const old = (Array.isArray(given) ? given[0] : given) ?? {};
  const inner = rest.length === 0 ? value : put(old as JsonObject, rest, value);
  return { ...copy, [step.jsonName]: step.isList ? [inner] : inner };
}

function has(request: JsonObject, [step, ...rest]: readonly Step[]): boolean {
  if (!step) return true;
  const given = request[step.jsonName];
  const inner = Array.isArray(given) ? given[0] : given;
  return inner !== undefined && (rest.length === 0 || has(inner as JsonObject, rest));
}
