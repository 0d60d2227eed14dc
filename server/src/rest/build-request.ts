/** What a client sends over REST, as the request message of the contract. */
import {
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  type Registry,
} from "@bufbuild/protobuf";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "../rpc/errors.ts";
import type { Binding } from "./bindings.ts";
import { type Dialect, methodKey, type RestRequest } from "./dialect.ts";
import { setParameters } from "./parameters.ts";

/** What arrived, before a dialect looks at it. */
export interface Received extends RestRequest {
  readonly variables: Readonly<Record<string, string>>;
  readonly body: JsonValue | undefined;
}

/** The request, and the same in ProtoJSON. Throws MALFORMED_REQUEST or INVALID_FIELD for what cannot be read. */
export function buildRequest(
  { method, body: bodyField }: Binding,
  dialect: Dialect,
  received: Received,
  registry: Registry,
): { message: MessageShape<DescMessage>; json: JsonObject } {
  const { input } = method;
  const sent = bodyAsRequest(bodyField, received.body);
  // With the whole request in the body there is nothing left for the query to say (google.api.http).
  if (bodyField !== "*") setParameters(input, sent, received.query, dialect.ignoreUnknownFields);
  for (const [field, value] of Object.entries(received.variables)) setVariable(input, sent, field, value);
  const adapt = dialect.methods[methodKey(method)]?.request;
  const json = adapt ? adapt(sent, received) : sent;
  try {
    // Not protobuf-es' own way of passing over, which would pass over unknown words of enums, too.
    const read = dialect.ignoreUnknownFields ? knownFields(input, json) : json;
    const message = fromJson(input, read, { registry });
    return { message, json };
  } catch (error) {
    throw failure(ErrorReason.MALFORMED_REQUEST, explain(error as Error));
  }
}

/** A copy without the fields that a message does not have, at any depth. */
function knownFields(schema: DescMessage, json: JsonObject): JsonObject {
  const fields = new Map(
    schema.fields.flatMap((field) => [[field.name, field] as const, [field.jsonName, field] as const]),
  );
  const entries = Object.entries(json).flatMap(([name, value]): [string, JsonValue][] => {
    const field = fields.get(name);
    if (!field || value === undefined) return [];
    const inner = field.message;
    if (!inner || inner.typeName.startsWith("google.protobuf.")) return [[name, value]];
    const known = (item: JsonValue) => (isObject(item) ? knownFields(inner, item) : item);
    if (field.fieldKind === "list") return [[name, Array.isArray(value) ? value.map(known) : value]];
    if (field.fieldKind !== "map" || !isObject(value)) return [[name, known(value)]];
    return [
      [name, Object.fromEntries(Object.entries(value).map(([key, item]) => [key, known(item as JsonValue)]))],
    ];
  });
  return Object.fromEntries(entries);
}

function isObject(value: JsonValue): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function bodyAsRequest(field: string, body: JsonValue | undefined): JsonObject {
  if (field === "") return {};
  if (field !== "*") return body === undefined ? {} : { [field]: body };
  if (body === undefined) return {};
  if (!isObject(body)) {
    throw failure(ErrorReason.MALFORMED_REQUEST, "the body must be a JSON object");
  }
  return { ...body };
}

/** The path wins over the body: it is what was asked for. */
function setVariable(schema: DescMessage, sent: JsonObject, field: string, value: string): void {
  for (const name of [field, schema.fields.find((each) => each.name === field)?.jsonName ?? field])
    delete sent[name];
  setParameters(schema, sent, [[field, value]]);
}

/** protobuf-es names the message in full, which tells a caller over REST nothing. */
function explain({ message }: Error): string {
  return message.replace(/^cannot decode (?:message|field|enum) (?:[\w.]*\.)?(\w+) from JSON: /, "$1: ");
}
