import { Code } from "./code.ts";
import type { ErrorReason } from "./gen/pulsewire/common/v1/error_reason_pb.js";

/** A documented reason: the name of an {@link ErrorReason} without its prefix, such as `RATE_LIMITED`. */
export type Reason = Exclude<{ [K in keyof typeof ErrorReason]: K }[keyof typeof ErrorReason], "UNSPECIFIED">;

/** A field of the request that breaks a rule. */
export interface FieldViolation {
  /** Path of the field, such as `event.event_type`. */
  field: string;
  /** The rule and what to do, for a person. */
  description: string;
}

/** What a {@link PulsewireError} is made of. */
export interface PulsewireErrorInit {
  code: Code;
  message: string;
  reason?: Reason | "";
  metadata?: Record<string, string>;
  violations?: FieldViolation[];
  retryDelayMs?: number | undefined;
  cause?: unknown;
}

/**
 * A call that failed, in the words of the service. Every call of the clients made here rejects with it.
 *
 * Branch on `reason` where there is one and on `code` otherwise; `message` is for people and may change.
 */
export class PulsewireError extends Error {
  override readonly name = "PulsewireError";
  /** The gRPC status code. */
  readonly code: Code;
  /** The documented reason. Empty where the error was not made by the service, such as a refused connection. */
  readonly reason: Reason | "";
  /** What the reason documents as metadata, such as `limit`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The fields that are wrong; with reason `INVALID_FIELD`, otherwise usually empty. */
  readonly violations: readonly FieldViolation[];
  /** Milliseconds to wait before the call is made again, where the server named them. */
  readonly retryDelayMs: number | undefined;

  constructor(init: PulsewireErrorInit) {
    super(init.message, { cause: init.cause });
    this.code = init.code;
    this.reason = init.reason ?? "";
    this.metadata = init.metadata ?? {};
    this.violations = init.violations ?? [];
    this.retryDelayMs = init.retryDelayMs;
  }
}

/** A PulsewireError as it is, and anything else that was thrown as the `cause` of one with code `Unknown`. */
export function asPulsewireError(thrown: unknown): PulsewireError {
  if (thrown instanceof PulsewireError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new PulsewireError({ code: Code.Unknown, message, cause: thrown });
}

/** The queue of a gateway is full and its policy is `throw`, or the item is larger than the whole queue. */
export class QueueFullError extends Error {
  override readonly name = "QueueFullError";
}

/** The gateway was closed; it takes nothing more. */
export class GatewayClosedError extends Error {
  override readonly name = "GatewayClosedError";
  constructor() {
    super("The gateway is closed and takes nothing more.");
  }
}
