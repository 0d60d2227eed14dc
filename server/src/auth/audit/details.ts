/** What the audit log tells of a request: names of fields and their new values, never a secret. */
import {
  type DescField,
  type DescMessage,
  type JsonObject,
  type JsonValue,
  toJson,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { DurationSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** Most characters of a text, and items of a list, that are entered. */
const maxText = 200;
const maxItems = 20;
const maxDepth = 4;
/** Most bytes of all details (the contract's 16 KiB, less room for the rest of the Struct). */
const maxBytes = 15 * 1024;

/** Fields that hold, or may hold, what nobody else should see. The contract's own mark is `debug_redact`. */
const confidential =
  /password|secret|token|code|credential|authorization|command|env$|input|jwks_json|callback/;

/** Fields that tell how to call, not what to do. */
const technical = new Set(["request_id", "etag", "update_mask", "tenant_id", "page_token", "page_size"]);

/** Texts that may hold a secret between others: of an address only its origin and path are entered. */
const address = /ur[il]$/;

/** The new values of a request's fields but the resource's id; of an update those that its mask names. */
export function requestDetails(schema: DescMessage, message: object, resourceType: string): JsonObject {
  const reflected = reflect(schema, message as never);
  const { updateMask } = message as { updateMask?: { paths: readonly string[] } };
  const named = updateMask && new Set(updateMask.paths.map((path) => path.split(".")[0]));
  const details: JsonObject = {};
  for (const field of schema.fields) {
    if (!isTellable(field) || technical.has(field.name) || field.name === `${resourceType}_id`) continue;
    if (named ? !named.has(field.name) : !reflected.isSet(field)) continue;
    const value = toldValue(reflected, field, 0);
    if (value !== undefined) details[field.name] = { new: value };
  }
  return bounded(details);
}

/** One field before and after. */
export function change(before: JsonValue, after: JsonValue): JsonObject {
  return { old: before, new: after };
}

/** Details that fit; of those that do not, the names of the fields. */
export function bounded(details: JsonObject): JsonObject {
  if (Buffer.byteLength(JSON.stringify(details)) <= maxBytes) return details;
  return { truncated: true, fields: Object.keys(details).slice(0, 100) };
}

function isTellable(field: DescField): boolean {
  if (confidential.test(field.name) || field.proto.options?.debugRedact) return false;
  // The keys and values of a map, and of free-form JSON, are the caller's own: nothing says that none is a secret.
  if (field.fieldKind === "map") return false;
  return !(field.message && /^google\.protobuf\.(Struct|Value|ListValue|Any)$/.test(field.message.typeName));
}

function toldValue(message: ReflectMessage, field: DescField, depth: number): JsonValue | undefined {
  switch (field.fieldKind) {
    case "list": {
      const items = [...message.get(field)];
      const shown = items.slice(0, maxItems).flatMap((item) => {
        const value = field.listKind === "message" ? nested(item, depth) : scalar(field, item);
        return value === undefined ? [] : [value];
      });
      return items.length > maxItems ? [...shown, `… ${items.length - maxItems} more`] : shown;
    }
    case "message":
      return message.isSet(field) ? nested(message.get(field), depth) : null;
    case "enum":
    case "scalar":
      return scalar(field, message.get(field));
    default:
      return undefined;
  }
}

function nested(value: unknown, depth: number): JsonValue | undefined {
  const message = value as ReflectMessage;
  if (
    message.desc.typeName === TimestampSchema.typeName ||
    message.desc.typeName === DurationSchema.typeName
  ) {
    return toJson(message.desc, message.message);
  }
  if (depth >= maxDepth) return undefined;
  const object: JsonObject = {};
  for (const field of message.desc.fields) {
    if (!isTellable(field) || !message.isSet(field)) continue;
    const inner = toldValue(message, field, depth + 1);
    if (inner !== undefined) object[field.name] = inner;
  }
  return object;
}

function scalar(field: DescField, value: unknown): JsonValue | undefined {
  if (field.enum) return field.enum.value[value as number]?.name ?? String(value);
  switch (typeof value) {
    case "string":
      return text(address.test(field.name) ? withoutSecrets(value) : value);
    case "bigint":
      return value.toString();
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    default:
      return undefined;
  }
}

/** A text that PostgreSQL stores and a hash survives: no U+0000, no half of a surrogate pair, not too long. */
export function text(value: string, max = maxText): string {
  const cut = value.length > max ? value.slice(0, max) : value;
  return cut.replaceAll("\0", "\ufffd").toWellFormed();
}

function withoutSecrets(url: string): string {
  if (!URL.canParse(url)) return "";
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}
