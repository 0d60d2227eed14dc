import type { DescField, DescMessage, JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { Binding } from "../../server/src/rest/bindings.ts";

/** A request over REST. */
export interface RestRequestLine {
  readonly method: string;
  readonly path: string;
  readonly body: JsonValue | undefined;
}

/** The same request over REST: what google.api.http says, the other way round. `request` is in ProtoJSON. */
export function toRestRequest(
  { method, httpMethod, template, body }: Binding,
  request: JsonObject,
): RestRequestLine {
  const rest: JsonObject = { ...request };
  const take = (name: string): JsonValue | undefined => {
    const field = fieldNamed(method.input, name);
    const value = rest[field.jsonName];
    delete rest[field.jsonName];
    return value;
  };
  const path = template.text.replace(/\{([a-z_.]+)(?:=([^}]*))?\}/g, (_, name: string, pattern?: string) => {
    const text = encodeURIComponent(String(take(name) ?? "none"));
    return pattern === "**" ? text.replaceAll("%2F", "/") : text;
  });
  const sent = body === "" ? undefined : body === "*" ? rest : (take(body) ?? {});
  const query = body === "*" ? "" : new URLSearchParams(flatten(rest)).toString();
  return { method: httpMethod, path: query ? `${path}?${query}` : path, body: sent };
}

function fieldNamed({ fields, typeName }: DescMessage, name: string): DescField {
  const field = fields.find((each) => each.name === name);
  if (!field) throw new Error(`${typeName} has no field ${name}`);
  return field;
}

function flatten(value: JsonObject, prefix = ""): [string, string][] {
  return Object.entries(value).flatMap(([name, inner]): [string, string][] => {
    const path = prefix + name;
    if (Array.isArray(inner)) return inner.map((each) => [path, String(each)]);
    if (typeof inner === "object" && inner !== null) return flatten(inner, `${path}.`);
    return [[path, String(inner)]];
  });
}
