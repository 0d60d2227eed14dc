/**
 * Errors as callers see them: a gRPC code, a sentence that says what to do, and details that a program can read
 * (AIP-193). What each reason means is written beside `ErrorReason` in the contract.
 */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { classifyDatabaseError } from "../db/sqlstate.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { type Interceptor, settle } from "./interceptor.ts";
import { wrapStream } from "./stream.ts";
import { requestIdKey } from "./trace.ts";

/** The `domain` of every ErrorInfo of this service. */
export const errorDomain = "pulsewire";

/** What is wrong with one field of a request. */
export interface FieldViolation {
  /** Path from the request message, such as `events[2].event_type`. */
  field: string;
  /** What the field must be, for a person. */
  description: string;
  /** Stable id of the rule, such as `string.min_len`. */
  rule: string;
}

export interface FailureDetails {
  /** Facts that a program may want; the keys stand beside the reason in the contract. */
  metadata?: Record<string, string>;
  /** The fields that are wrong. */
  violations?: readonly FieldViolation[];
  /** When calling again makes sense. Sent as RetryInfo and as the header `retry-after` in whole seconds. */
  retryAfterMs?: number;
  /** What went wrong underneath; logged, never sent. */
  cause?: unknown;
}

const codes: Record<Exclude<ErrorReason, ErrorReason.UNSPECIFIED>, Code> = {
  [ErrorReason.INVALID_FIELD]: Code.InvalidArgument,
  [ErrorReason.MALFORMED_REQUEST]: Code.InvalidArgument,
  [ErrorReason.INVALID_CURSOR]: Code.InvalidArgument,
  [ErrorReason.CURSOR_EXPIRED]: Code.OutOfRange,
  [ErrorReason.MISSING_CREDENTIALS]: Code.Unauthenticated,
  [ErrorReason.INVALID_API_KEY]: Code.Unauthenticated,
  [ErrorReason.INVALID_TOKEN]: Code.Unauthenticated,
  [ErrorReason.INVALID_LOGIN]: Code.Unauthenticated,
  [ErrorReason.INVALID_CODE]: Code.Unauthenticated,
  [ErrorReason.MISSING_SCOPE]: Code.PermissionDenied,
  [ErrorReason.PASSWORD_CHANGE_REQUIRED]: Code.PermissionDenied,
  [ErrorReason.DISABLED]: Code.PermissionDenied,
  [ErrorReason.NOT_CREATOR]: Code.PermissionDenied,
  [ErrorReason.NOT_FOUND]: Code.NotFound,
  [ErrorReason.ALREADY_EXISTS]: Code.AlreadyExists,
  [ErrorReason.CONFLICT]: Code.AlreadyExists,
  [ErrorReason.FAILED_PRECONDITION]: Code.FailedPrecondition,
  [ErrorReason.ALREADY_COMPLETED]: Code.FailedPrecondition,
  [ErrorReason.ETAG_MISMATCH]: Code.Aborted,
  [ErrorReason.RATE_LIMITED]: Code.ResourceExhausted,
  [ErrorReason.TENANT_LIMIT]: Code.ResourceExhausted,
  [ErrorReason.MESSAGE_TOO_LARGE]: Code.ResourceExhausted,
  [ErrorReason.OVERLOADED]: Code.ResourceExhausted,
  [ErrorReason.SLOW_READER]: Code.ResourceExhausted,
  [ErrorReason.DRAINING]: Code.Unavailable,
  [ErrorReason.DEPENDENCY_UNAVAILABLE]: Code.Unavailable,
  [ErrorReason.DEADLINE_EXCEEDED]: Code.DeadlineExceeded,
  [ErrorReason.NOT_IMPLEMENTED]: Code.Unimplemented,
  [ErrorReason.INTERNAL]: Code.Internal,
  [ErrorReason.NOT_CONFIGURED]: Code.FailedPrecondition,
  [ErrorReason.INSUFFICIENT_ROLE]: Code.PermissionDenied,
  [ErrorReason.TENANT_SUSPENDED]: Code.PermissionDenied,
  [ErrorReason.KEY_RESTRICTED]: Code.PermissionDenied,
  [ErrorReason.REQUEST_IN_PROGRESS]: Code.Aborted,
  [ErrorReason.OUTCOME_UNKNOWN]: Code.FailedPrecondition,
};

/** Makes the error that says why a call failed. Throw it from a handler or an interceptor. */
export function failure(
  reason: Exclude<ErrorReason, ErrorReason.UNSPECIFIED>,
  message: string,
  details: FailureDetails = {},
): ConnectError {
  const error = new ConnectError(message, codes[reason], undefined, undefined, details.cause);
  const info = create(ErrorInfoSchema, {
    reason: ErrorReason[reason],
    domain: errorDomain,
    metadata: details.metadata ?? {},
  });
  error.details.push({ desc: ErrorInfoSchema, value: info });
  if (details.violations?.length) {
    const fieldViolations = details.violations.map(({ field, description, rule }) => ({
      field,
      description,
      reason: rule,
    }));
    error.details.push({ desc: BadRequestSchema, value: { fieldViolations } });
  }
  if (details.retryAfterMs !== undefined) {
    error.details.push({
      desc: RetryInfoSchema,
      // A Duration holds whole nanoseconds.
      value: { retryDelay: durationFromMs(Math.ceil(details.retryAfterMs)) },
    });
    error.metadata.set("retry-after", String(Math.max(1, Math.ceil(details.retryAfterMs / 1000))));
  }
  return error;
}

/** A failure because of one field. */
export function invalidField(field: string, description: string, rule = "invalid"): ConnectError {
  return failure(ErrorReason.INVALID_FIELD, `${field}: ${description}`, {
    violations: [{ field, description, rule }],
  });
}

/** A failure because the resource is not in the caller's tenant. */
export function notFound(resource: string, id: string): ConnectError {
  return failure(ErrorReason.NOT_FOUND, `no ${resource} '${id}' in this tenant`, {
    metadata: { resource, id },
  });
}

const retryAfterOutageMs = 1_000;

/** Turns whatever was thrown into what the caller may see; the rest is for the log. */
export function toCallerError(error: unknown, requestId: string): ConnectError {
  if (error instanceof ConnectError) {
    const reason = defaultReasons[error.code];
    if (reason === undefined || error.details.length > 0) return error;
    const full = failure(reason, error.rawMessage, { cause: error.cause });
    error.details.push(...full.details);
    return error;
  }
  if (error instanceof Error && error.name === "AbortError")
    return new ConnectError("the call was cancelled", Code.Canceled);
  switch (classifyDatabaseError(error)?.kind) {
    case "unavailable":
      return failure(
        ErrorReason.DEPENDENCY_UNAVAILABLE,
        "the database cannot be reached right now; call again",
        {
          metadata: { dependency: "database" },
          retryAfterMs: retryAfterOutageMs,
          cause: error,
        },
      );
    case "exhausted":
      return failure(ErrorReason.OVERLOADED, "the database is out of room or connections; call again later", {
        retryAfterMs: retryAfterOutageMs,
        cause: error,
      });
    case "retry":
      return failure(
        ErrorReason.DEPENDENCY_UNAVAILABLE,
        "the database was too busy to finish this call; call again",
        {
          metadata: { dependency: "database" },
          retryAfterMs: 100,
          cause: error,
        },
      );
    case "timeout":
      return failure(ErrorReason.DEADLINE_EXCEEDED, "the database took longer than this call may take", {
        cause: error,
      });
    default:
      return failure(ErrorReason.INTERNAL, `internal error; ask the operator for request ${requestId}`, {
        metadata: { request_id: requestId },
        cause: error,
      });
  }
}

/** Reasons of errors that the protocol library raises by itself. */
const defaultReasons: Partial<Record<Code, Exclude<ErrorReason, ErrorReason.UNSPECIFIED>>> = {
  [Code.Unimplemented]: ErrorReason.NOT_IMPLEMENTED,
  [Code.DeadlineExceeded]: ErrorReason.DEADLINE_EXCEEDED,
  [Code.InvalidArgument]: ErrorReason.MALFORMED_REQUEST,
};

/** Sends only errors that the caller may see, and logs the cause of those that are our fault. */
export function errorsInterceptor(logger: Logger): Interceptor {
  return (next) => (req) => {
    const requestId = req.contextValues.get(requestIdKey);
    const translate = (error: unknown): ConnectError => {
      const shown = toCallerError(error, requestId);
      if (shown.code === Code.Internal || shown.code === Code.Unknown || shown.code === Code.Unavailable) {
        const err = shown.cause ?? error;
        logger.error({ err, requestId, method: req.method.name }, "call failed");
      }
      return shown;
    };
    return settle(
      next,
      req,
      (res) => (res.stream ? { ...res, message: wrapStream(res.message, { onError: translate }) } : res),
      (error) => {
        throw translate(error);
      },
    );
  };
}

/** Errors that the protocol library raises before any interceptor runs, for requests that it cannot read. */
export function explainProtocolError(limits: {
  readMaxBytes: number;
}): (error: ConnectError) => ConnectError {
  return (error) => {
    if (/readMaxBytes/.test(error.rawMessage)) {
      return failure(
        ErrorReason.MESSAGE_TOO_LARGE,
        `the message is larger than the ${limits.readMaxBytes} bytes that this server takes; send less at once`,
        { metadata: { limit_bytes: String(limits.readMaxBytes) } },
      );
    }
    const unreadable = error.code === Code.InvalidArgument || /^parse binary: /.test(error.rawMessage);
    return unreadable ? failure(ErrorReason.MALFORMED_REQUEST, error.rawMessage) : error;
  };
}
