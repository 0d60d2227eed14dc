import { Code } from "../code.ts";
import { type FieldViolation, PulsewireError, type Reason } from "../errors.ts";
import { readFields } from "../message-reader.ts";
import { parseRetryAfter } from "../retry-after.ts";
import type { AnswerHeaders } from "./exchange.ts";

/** A detail of an error: a `google.protobuf.Any`. */
export interface Detail {
  /** Name of the message, such as `google.rpc.RetryInfo`. */
  type: string;
  value: Uint8Array;
}

/** The error of an answer, in the words of the service. */
export function errorOf(
  code: Code,
  message: string,
  details: readonly Detail[],
  headers: AnswerHeaders,
  knownReason: Reason | "" = "",
): PulsewireError {
  let reason: string = knownReason;
  const metadata: Record<string, string> = {};
  const violations: FieldViolation[] = [];
  // A proxy's Retry-After may be longer than the service's own delay.
  let retryDelayMs = parseRetryAfter(headers.get("retry-after"));
  for (const { type, value } of details) {
    if (type === "google.rpc.ErrorInfo" && reason === "") reason = readInfo(value, metadata);
    else if (type === "google.rpc.RetryInfo") {
      readFields(value, (field, delay) => {
        if (field === 1) retryDelayMs = Math.max(retryDelayMs ?? 0, delay.durationMs);
      });
    } else if (type === "google.rpc.BadRequest") {
      readFields(value, (field, violation) => {
        if (field === 1) violations.push(readViolation(violation.bytes));
      });
    }
  }
  return new PulsewireError({
    code,
    message,
    reason: reason as Reason | "",
    metadata,
    violations,
    retryDelayMs,
  });
}

/** The error of an answer that is none of the service's, such as a proxy's. */
export function httpError(status: number, headers: AnswerHeaders): PulsewireError {
  const reason = status === contentTooLarge ? "MESSAGE_TOO_LARGE" : "";
  return errorOf(codeOfHttp[status] ?? Code.Unknown, `HTTP ${status}`, [], headers, reason);
}

const contentTooLarge = 413;

/** As gRPC maps them, and 413, which is one of proxies. */
const codeOfHttp: Record<number, Code> = {
  400: Code.Internal,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  [contentTooLarge]: Code.ResourceExhausted,
  429: Code.Unavailable,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.Unavailable,
};

/** Reason 1, domain 2, metadata 3. Those of others say nothing that is documented. */
function readInfo(bytes: Uint8Array, metadata: Record<string, string>): string {
  const info = { reason: "", domain: "" };
  const entries: [string, string][] = [];
  readFields(bytes, (field, value) => {
    if (field === 1) info.reason = value.text;
    else if (field === 2) info.domain = value.text;
    else if (field === 3) entries.push(readEntry(value.bytes));
  });
  if (info.domain !== "pulsewire") return "";
  for (const [key, value] of entries) metadata[key] = value;
  return info.reason;
}

function readEntry(bytes: Uint8Array): [string, string] {
  const entry: [string, string] = ["", ""];
  readFields(bytes, (field, value) => {
    if (field === 1 || field === 2) entry[field - 1] = value.text;
  });
  return entry;
}

function readViolation(bytes: Uint8Array): FieldViolation {
  const [field, description] = readEntry(bytes);
  return { field, description };
}
