import type { DescMessage, DescMethod, MessageShape } from "@bufbuild/protobuf";
import { clone, toBinary, toJson } from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import stringify from "safe-stable-stringify";
import { uuidForm } from "../db/uuid.ts";
import type { Caller } from "../rpc/caller.ts";
import { invalidField } from "../rpc/errors.ts";

/** What makes a repeated call recognisable. */
export interface RequestKey {
  /** As the caller gave it. */
  readonly key: string;
  /** Method, tenant and caller that it belongs to: elsewhere the same key is another. */
  readonly scope: readonly string[];
  /** The request without its id, the same for the same content whatever its encoding. */
  readonly content: string | Uint8Array;
}

const headerName = "idempotency-key";
const visible = /^[\x21-\x7e]{1,255}$/;
const secretName = /password|secret|token|code|credential/;
/** A request id that guards secrets must not be guessed. */
const strongLength = 16;

/** Whether a method takes a request id: a unary mutation whose items carry no ids of their own. */
export function takesRequestId(method: DescMethod): boolean {
  return (
    method.methodKind === "unary" &&
    method.idempotency !== Idempotency.NO_SIDE_EFFECTS &&
    method.input.fields.some(({ name }) => name === "request_id")
  );
}

/**
 * The key of a call, from the field `request_id` or the header `Idempotency-Key` (1 to 255 visible characters, with or
 * without the quotes of a structured field). Undefined where neither is given; INVALID_FIELD where they disagree.
 * UUIDs are the same in any case.
 */
export function requestKeyOf(
  method: DescMethod,
  message: MessageShape<DescMessage>,
  header: Headers,
  caller: Caller | undefined,
): RequestKey | undefined {
  const inField = (message as { requestId?: string }).requestId;
  const inHeader = header.get(headerName);
  if (!inField && inHeader === null) return undefined;
  const fromHeader = inHeader === null ? undefined : readHeader(inHeader);
  const key = normalise(inField || fromHeader || "");
  if (inField && fromHeader !== undefined && normalise(fromHeader) !== key) {
    throw invalidField("request_id", `must agree with the header ${headerName}, or leave one of them out`);
  }
  if (key.length < strongLength && (!caller || hasSecret(method.input))) {
    throw invalidField(
      headerName,
      `must have at least ${strongLength} characters in this call, so that it cannot be guessed; use a UUID`,
    );
  }
  return {
    key,
    scope: [methodName(method), ...callerScope(caller)],
    content: contentOf(method.input, message),
  };
}

function readHeader(text: string): string {
  const key = /^"(.*)"$/.exec(text.trim())?.[1] ?? text.trim();
  if (!visible.test(key)) throw invalidField(headerName, "must be 1 to 255 visible ASCII characters");
  return key;
}

function normalise(key: string): string {
  const lower = key.toLowerCase();
  return uuidForm.test(lower) ? lower : key;
}

function callerScope(caller: Caller | undefined): string[] {
  if (!caller) return ["public"];
  return [caller.tenantId, caller.kind, caller.apiKeyId ?? caller.userId ?? ""];
}

function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

function hasSecret(input: DescMessage): boolean {
  return input.fields.some(({ name }) => secretName.test(name));
}

function contentOf(schema: DescMessage, message: MessageShape<DescMessage>): string | Uint8Array {
  const copy = clone(schema, message);
  const field = schema.fields.find(({ name }) => name === "request_id");
  if (field) reflect(schema, copy).clear(field);
  try {
    // Not the encoding: clients are free to send the entries of a map in any order.
    return stringify(toJson(schema, copy)) ?? "";
  } catch {
    // JSON has no word for some values, such as NaN in a Struct.
    return toBinary(schema, copy);
  }
}
