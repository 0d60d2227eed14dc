import { ConnectError } from "@connectrpc/connect";
import { PulsewireError, type Reason } from "./errors.ts";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { parseRetryAfter } from "./retry-after.ts";

/**
 * Turns anything that was thrown into a {@link PulsewireError}, and leaves one as it is.
 * A cancelled call has code `Canceled`; what is no error of a call has code `Unknown`. The original is the `cause`.
 */
export function toPulsewireError(thrown: unknown): PulsewireError {
  if (thrown instanceof PulsewireError) return thrown;
  const error = ConnectError.from(thrown);
  const info = error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "pulsewire");
  return new PulsewireError({
    code: error.code,
    message: error.rawMessage,
    reason: (info?.reason ?? "") as Reason | "",
    metadata: info?.metadata ?? {},
    violations: error
      .findDetails(BadRequestSchema)
      .flatMap(({ fieldViolations }) =>
        fieldViolations.map(({ field, description }) => ({ field, description })),
      ),
    retryDelayMs: serverDelayMs(error),
    cause: thrown,
  });
}

/** The longest of the delays that the server named: a proxy's Retry-After may be longer than the service's own. */
function serverDelayMs(error: ConnectError): number | undefined {
  const delays = error
    .findDetails(RetryInfoSchema)
    .flatMap(({ retryDelay }) =>
      retryDelay ? [Number(retryDelay.seconds) * 1000 + retryDelay.nanos / 1e6] : [],
    );
  const header = parseRetryAfter(error.metadata.get("retry-after"));
  if (header !== undefined) delays.push(header);
  return delays.length > 0 ? Math.max(0, ...delays) : undefined;
}
