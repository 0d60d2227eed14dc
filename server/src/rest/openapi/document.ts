/** OpenAPI 3.1 for all REST paths, made from the contract: one document, each system's calls under a tag of their own. */
import type { DescField, DescMethod, DescService, JsonObject, JsonValue } from "@bufbuild/protobuf";
import { version } from "../../ops/version.ts";
import type { AccessRule } from "../../rpc/access.ts";
import { type Binding, bindingsOf } from "../bindings.ts";
import { type Dialect, methodKey, plainAnswer } from "../dialect.ts";
import { dialectOf, dialects } from "../dialects/index.ts";
import { formsOf } from "../stream-answer.ts";
import type { Template } from "../template.ts";
import { commentOf, isRequired, nameOf, Schemas } from "./schema.ts";

/** Makes the document. `rules`: who may call what. */
export function openApiDocument(
  services: readonly DescService[],
  rules: ReadonlyMap<DescMethod, AccessRule>,
): JsonObject {
  const schemas = new Schemas();
  const paths: Record<string, JsonObject> = {};
  const names = new Map<string, number>();
  for (const binding of bindingsOf(services)) {
    const path = openApiPath(binding.template);
    const dialect = dialectOf(binding.template.text);
    const count = (names.get(methodKey(binding.method)) ?? 0) + 1;
    names.set(methodKey(binding.method), count);
    const operationId = methodKey(binding.method).replace(".", "_") + (count > 1 ? `_${count}` : "");
    paths[path] ??= {};
    paths[path][binding.httpMethod.toLowerCase()] = operation(binding, dialect, schemas, rules, operationId);
  }
  for (const dialect of dialects) schemas.components[errorName(dialect)] = dialect.errorSchema;
  for (const [path, item] of Object.entries(standardPaths)) paths[path] = { ...paths[path], ...item };
  return {
    openapi: "3.1.0",
    info: {
      title: "Pulsewire",
      version,
      description:
        "Events, metrics, functions, progress and webhooks. The same calls as over gRPC and Connect; the paths of PulseStream, " +
        "Event Processor, EventFlow, Pebbles and StorePulse answer as their own documents say.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [
      ...services.map(({ name, typeName }) => ({ name, description: commentOf(typeName) })),
      ...dialects
        .slice(0, -1)
        .map(({ title }) => ({ name: title, description: `The calls of ${title}, unchanged.` })),
    ],
    paths,
    components: {
      schemas: schemas.components,
      securitySchemes: {
        apiKey: { type: "apiKey", in: "header", name: "x-api-key", description: "An API key, `evp_…`." },
        bearer: {
          type: "http",
          scheme: "bearer",
          description: "A token of Login, or of an identity provider.",
        },
      },
    },
  };
}

/** The paths of open standards, whose messages are described by the standards themselves. */
const standardPaths: Readonly<Record<string, JsonObject>> = {
  "/api/v1/write": { post: standard("PrometheusRemoteWrite", "Prometheus remote write, 1.0 and 2.0.", []) },
  "/v1/metrics": {
    post: standard("OtlpMetrics", "OpenTelemetry metrics (OTLP/HTTP).", ["application/json"]),
  },
  "/v1/logs": { post: standard("OtlpLogs", "OpenTelemetry log records (OTLP/HTTP).", ["application/json"]) },
};

function standard(operationId: string, summary: string, besides: readonly string[]): JsonObject {
  const types = ["application/x-protobuf", ...besides];
  const content = Object.fromEntries(types.map((type) => [type, {}]));
  return {
    operationId,
    tags: ["Open standards"],
    summary,
    requestBody: { required: true, content },
    responses: {
      "2XX": { description: "Taken." },
      "4XX": { description: "Refused." },
      "5XX": { description: "Failed." },
    },
    security: [{ apiKey: [] }, { bearer: [] }],
  };
}

function operation(
  binding: Binding,
  dialect: Dialect,
  schemas: Schemas,
  rules: ReadonlyMap<DescMethod, AccessRule>,
  operationId: string,
): JsonObject {
  const { method } = binding;
  const comment = commentOf(`${method.parent.typeName}.${method.name}`);
  const summary = comment.split(/(?<=[.?!])\s/, 1)[0] ?? method.name;
  const rule = rules.get(method);
  const open = rule?.kind === "public" || rule?.openInPublicTenant === true;
  const body = bodySchema(binding, dialect, schemas);
  return {
    operationId,
    tags: [dialect.name === "canonical" ? method.parent.name : dialect.title],
    summary,
    description: comment,
    parameters: [...pathParameters(binding, dialect, schemas), ...queryParameters(binding, dialect, schemas)],
    ...(body && {
      requestBody: { required: needsBody(binding), content: { "application/json": { schema: body } } },
    }),
    responses: { ...answers(binding, dialect, schemas), ...errors(dialect) },
    security: [{ apiKey: [] }, { bearer: [] }, ...(open ? [{}] : [])],
  };
}

function openApiPath({ text }: Template): string {
  return text.replace(/\{([a-z_.]+)=[^}]*\}/g, "{$1}");
}

function fieldNamed({ input }: DescMethod, name: string): DescField {
  const field = input.fields.find((each) => each.name === name);
  if (!field) throw new Error(`${input.typeName} has no field ${name}`);
  return field;
}

function pathParameters({ method, template }: Binding, dialect: Dialect, schemas: Schemas): JsonObject[] {
  return template.variables.map(({ field: name }) => {
    const { description, ...schema } = schemas.field(fieldNamed(method, name), dialect.spelling);
    return {
      name,
      in: "path",
      required: true,
      ...(description && { description }),
      schema: { minLength: 1, ...schema },
    };
  });
}

/** What is neither in the path nor in the body. */
function queryParameters(binding: Binding, dialect: Dialect, schemas: Schemas): JsonObject[] {
  if (binding.body === "*") return [];
  const { method, template, body } = binding;
  const elsewhere = new Set([body, ...template.variables.map(({ field }) => field)]);
  const parameters = method.input.fields
    .filter(({ name }) => !elsewhere.has(name))
    .flatMap((field) => leaves(field, dialect, schemas));
  // EventFlow's own pagination.
  return method.name === "ListFunctions" ? [...parameters, page("page"), page("limit")] : parameters;
}

const page = (name: string): JsonObject => ({
  name,
  in: "query",
  schema: { type: "integer", minimum: 1, maximum: 1000 },
});

/** A nested message is given by its fields, as `filter.user_id`. */
function leaves(field: DescField, dialect: Dialect, schemas: Schemas, prefix = ""): JsonObject[] {
  const name = prefix + nameOf(field, dialect.spelling);
  const nested = field.fieldKind === "message" && !field.message.typeName.startsWith("google.protobuf.");
  if (nested) return field.message.fields.flatMap((inner) => leaves(inner, dialect, schemas, `${name}.`));
  if (field.fieldKind === "list" && field.listKind === "message") return [];
  const { description, ...schema } = schemas.field(field, dialect.spelling);
  const style = field.fieldKind === "map" ? { style: "deepObject", explode: true } : {};
  const required = prefix === "" && isRequired(field) && { required: true };
  return [{ name, in: "query", ...required, ...(description && { description }), ...style, schema }];
}

function bodySchema(
  { method, body, template }: Binding,
  dialect: Dialect,
  schemas: Schemas,
): JsonObject | undefined {
  if (body === "") return undefined;
  const form = { ...dialect.spelling, sent: true, requiring: dialect };
  if (body !== "*") return schemas.message(fieldNamed(method, body).message as never, form);
  const inPath = template.variables.map(({ field }) => fieldNamed(method, field));
  return inPath.length === 0
    ? schemas.message(method.input, form)
    : schemas.messageWithout(method.input, form, inPath);
}

/** Whether a call without a body would be refused. */
function needsBody({ method, body, template }: Binding): boolean {
  const elsewhere = new Set(template.variables.map(({ field }) => field));
  return body !== "*" || method.input.fields.some((field) => isRequired(field) && !elsewhere.has(field.name));
}

function answers({ method }: Binding, dialect: Dialect, schemas: Schemas): JsonObject {
  if (method.methodKind === "server_streaming") {
    const schema = schemas.message(method.output, dialect.spelling);
    const content = Object.fromEntries(
      formsOf(method).map((form) => [
        form,
        { schema: form === "application/x-ndjson" ? schema : { type: "string" } },
      ]),
    );
    return { 200: { description: "Messages as they come.", content } };
  }
  const { documented, optional = [] } = dialect.methods[methodKey(method)] ?? {};
  if (documented) {
    return Object.fromEntries(
      Object.entries(documented).map(([status, example]) => [
        status,
        {
          description: "As documented.",
          content: { "application/json": { schema: schemaOf(example, optional), example } },
        },
      ]),
    );
  }
  const { status, body } = plainAnswer(method, {});
  if (body === undefined) return { [status]: { description: "Done." } };
  const schema = schemas.message(method.output, dialect.spelling);
  const enveloped = dialect.name === "event-processor" ? envelope(schema) : schema;
  const { status: spoken } = dialect.answer(method, {});
  return {
    [spoken]: {
      description: commentOf(method.output.typeName),
      content: { "application/json": { schema: enveloped } },
    },
  };
}

const envelope = (data: JsonObject): JsonObject => ({
  type: "object",
  properties: { success: { const: true }, data },
  required: ["success", "data"],
});

/** A schema that the example fits and everything of its shape. */
function schemaOf(example: JsonValue, optional: readonly string[]): JsonObject {
  if (Array.isArray(example))
    return { type: "array", items: example[0] === undefined ? {} : schemaOf(example[0], optional) };
  if (typeof example === "object" && example !== null) {
    const entries = Object.entries(example);
    return {
      type: "object",
      properties: Object.fromEntries(entries.map(([name, value]) => [name, schemaOf(value, optional)])),
      required: entries.map(([name]) => name).filter((name) => !optional.includes(name)),
    };
  }
  return { type: typeof example };
}

const errorName = ({ name }: Dialect): string => `Error_${name.replaceAll("-", "_")}`;

function errors(dialect: Dialect): JsonObject {
  const type = dialect.name === "canonical" ? "application/problem+json" : "application/json";
  const content = { [type]: { schema: { $ref: `#/components/schemas/${errorName(dialect)}` } } };
  return {
    "4XX": { description: "The call is refused; the body says why and what to do.", content },
    "5XX": { description: "The call failed here; it may be made again.", content },
  };
}
