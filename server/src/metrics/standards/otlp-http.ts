/** OTLP over HTTP: the calls of its services as plain POSTs, in Protobuf or JSON. */
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  fromJson,
  type JsonObject,
  type JsonValue,
  type MessageShape,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { StatusSchema } from "../../gen/google/rpc/status_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import type { HttpRequest } from "../../listener/http.ts";
import type { CallRegistry } from "../../rest/calls.ts";
import { HttpError } from "../../rest/http-error.ts";
import { readBody } from "../../rest/read-body.ts";
import { failure } from "../../rpc/errors.ts";
import type { StandardPath } from "./http.ts";

/** `POST` to `path`: a call of a method of OTLP. */
export function otlpPath(
  path: string,
  method: DescMethodUnary,
  calls: CallRegistry,
  maxBytes: number,
): StandardPath {
  return {
    path,
    begin: (req) => calls.begin(method, req),
    async answer(call, req) {
      const request = await readRequest(req).catch((error: unknown) =>
        error instanceof HttpError ? Promise.reject(error) : calls.reject(call, error),
      );
      const { message } = await calls.unary(call, request);
      return written(req, method.output, message);
    },
    refuse(error, status, req) {
      const code = error instanceof HttpError ? Code.InvalidArgument : error.code;
      const message = error instanceof HttpError ? error.message : error.rawMessage;
      return { ...written(req, StatusSchema, create(StatusSchema, { code, message })), status };
    },
  };

  async function readRequest(req: HttpRequest): Promise<MessageShape<DescMessage>> {
    const type = typeOf(req);
    if (type !== protobuf && type !== json) {
      throw new HttpError(
        415,
        `content-type '${type.slice(0, 80)}' is not served here; send ${protobuf} or ${json}`,
        {
          accept: `${protobuf}, ${json}`,
        },
      );
    }
    const bytes = await readBody(req, maxBytes);
    try {
      if (type === protobuf) return fromBinary(method.input, bytes);
      const value = withBase64Ids(JSON.parse(bytes.toString("utf8")));
      return fromJson(method.input, value, { ignoreUnknownFields: true });
    } catch (error) {
      throw failure(
        ErrorReason.MALFORMED_REQUEST,
        `the body is no ${method.input.name}: ${(error as Error).message}`,
      );
    }
  }
}

const protobuf = "application/x-protobuf";
const json = "application/json";

function typeOf(req: HttpRequest): string {
  return (req.headers["content-type"] ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

/** A message in the form of the request. */
function written<Desc extends DescMessage>(req: HttpRequest, schema: Desc, message: MessageShape<Desc>) {
  const type = typeOf(req) === json ? json : protobuf;
  const body = type === json ? toJsonString(schema, message) : toBinary(schema, message);
  return { status: 200, headers: { "content-type": type }, body };
}

/** OTLP writes the ids of traces and spans in hexadecimal, where JSON of Protobuf has base64. */
function withBase64Ids(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withBase64Ids);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value as JsonObject).map(([key, inner]) =>
    /^(?:trace|span)_?id$/i.test(key) && typeof inner === "string"
      ? [key, Buffer.from(inner, "hex").toString("base64")]
      : [key, withBase64Ids(inner)],
  );
  return Object.fromEntries(entries) as JsonObject;
}
