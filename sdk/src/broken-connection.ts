import { Code } from "./code.ts";
import { PulsewireError } from "./errors.ts";

/** What Connect throws where the body ends before the trailers or the message that ends a stream. */
const cutOff = /^(protocol error: )?missing (EndStreamResponse|trailer|status|message)/;
/** What it throws where a stream was reset, whichever code that had: none is an answer of the service. */
const reset = /^http\/2 stream closed with error code/;
/** Codes of errors that Node makes of a wrong request, such as a header with a line break: another try is as wrong. */
const callersMistake =
  /^ERR_(INVALID|OUT_OF_RANGE|HTTP2_(INVALID_(?!SESSION|STREAM)|HEADER|PSEUDOHEADER|CONNECT|STATUS))/;

/**
 * Says of a call that ended without an answer that the service is UNAVAILABLE. Connect calls it a cancellation or an
 * internal error when a connection breaks, depending on how it broke; where nobody cancelled, that misleads, and what may
 * be sent again would be given up.
 */
export function explainBroken(error: PulsewireError): PulsewireError {
  if (error.reason !== "" || error.code === Code.DeadlineExceeded) return error;
  const broken =
    error.code === Code.Canceled ||
    cutOff.test(error.message) ||
    reset.test(error.message) ||
    isConnectionError(error.cause);
  if (!broken) return error;
  const message = `The connection broke before the answer was complete: ${error.message}`;
  return new PulsewireError({ code: Code.Unavailable, message, cause: error });
}

/** Whether it is, or was caused by, an error of Node's about a connection: refused, broken, not to be trusted. */
function isConnectionError(thrown: unknown): boolean {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 10; error = error.cause, depth++) {
    const { code } = error as { code?: unknown };
    if (typeof code === "string" && !code.startsWith("Z_")) return !callersMistake.test(code);
  }
  return false;
}
