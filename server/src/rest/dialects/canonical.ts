import { STATUS_CODES } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { type Dialect, plainAnswer } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf } from "../http-status.ts";

/** Pulsewire's own REST: ProtoJSON in camelCase, errors as problems of RFC 9457. */
export const canonical: Dialect = {
  name: "canonical",
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
