import { STATUS_CODES } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { type Dialect, plainAnswer } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf } from "../http-status.ts";

/** Pulsewire's own REST: ProtoJSON in camelCase, errors as problems of RFC 9457. */
export const canonical: Dialect = {
  name: "canonical",
  title: "Pulsewire",
  errorSchema: {
    type: "object",
    description: "A problem of RFC 9457.",
    properties: {
      type: { type: "string", description: "`urn:pulsewire:problem:<reason>`, or `about:blank`." },
      title: { type: "string", description: "The words of the status." },
      status: { type: "integer" },
      detail: { type: "string", description: "What is wrong and what to do." },
      instance: { type: "string", description: "The path that was called." },
      code: { type: "string", description: "gRPC's word for it, such as `INVALID_ARGUMENT`." },
      reason: { type: "string", description: "Name of an ErrorReason of the contract." },
      metadata: { type: "object", additionalProperties: { type: "string" } },
      violations: {
        type: "array",
        items: {
          type: "object",
          properties: {
            field: { type: "string" },
            description: { type: "string" },
            rule: { type: "string" },
          },
          required: ["field", "description", "rule"],
        },
      },
    },
    required: ["type", "title", "status", "detail"],
  },
  owns: () => true,
  spelling: { names: "json", int64: "string" },
  ignoreUnknownFields: false,
  methods: {},
  answer: plainAnswer,
  failure(error, path) {
    if (error instanceof HttpError) {
      const { status, message } = error;
      const problem = {
        type: "about:blank",
        title: STATUS_CODES[status] ?? "",
        status,
        detail: message,
        instance: path,
      };
      return { status, contentType: "application/problem+json", body: problem, headers: error.headers };
    }
    const status = httpStatusOf(error);
    const info = error.findDetails(ErrorInfoSchema)[0];
    const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
    return {
      status,
      contentType: "application/problem+json",
      body: {
        // The reason says which problem it is; without one the status does.
        type: info ? `urn:pulsewire:problem:${info.reason}` : "about:blank",
        title: STATUS_CODES[status] ?? "Client Closed Request",
        status,
        detail: error.rawMessage,
        instance: path,
        code: ConnectError.from(error).code === Code.Canceled ? "canceled" : codeName(error.code),
        ...(info && { reason: info.reason, metadata: info.metadata }),
        ...(violations.length > 0 && {
          violations: violations.map(({ field, description, reason }) => ({
            field,
            description,
            rule: reason,
          })),
        }),
      },
    };
  },
};

/** gRPC's own word, such as `INVALID_ARGUMENT`. */
function codeName(code: Code): string {
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}
