/** What all entries export: what belongs to gateways. */
export type { Backlog, BacklogListener, Place } from "./backlog.ts";
export type { RetryNotice } from "./batcher-options.ts";
export type { PaceOptions } from "./breaker.ts";
export type { ClientOptions } from "./client-options.ts";
export type { DeliveryCounts, DropReason, GatewayCounts } from "./counts.ts";
export type { Credentials, LoginCredentials, TokenSource } from "./credentials.ts";
export type { FieldViolation, PulsewireErrorInit, Reason } from "./errors.ts";
export { GatewayClosedError, PulsewireError, QueueFullError } from "./errors.ts";
export type { EventInput, SeverityName } from "./event-input.ts";
export { Gateway } from "./gateway.ts";
export type {
  BatchOptions,
  DropNotice,
  GatewayOptions,
  GatewayStore,
  ItemIdentity,
  ItemSettled,
  QueueLimits,
} from "./gateway-options.ts";
export type { WatchedOutcome } from "./ledger.ts";
export type { FinalOutcome } from "./outcome.ts";
export type { PackedEvent } from "./packed-event.ts";
export type { Item, WhenFull } from "./queue.ts";
export type { LineIssueInput, PackedReport, ProgressInput } from "./reports.ts";
export {
  backoffMs,
  defaultRetryPolicy,
  type RetryPolicy,
  retryDelayMs,
  type SleepOptions,
  shouldRetry,
  sleep,
} from "./retry.ts";
export { parseRetryAfter } from "./retry-after.ts";
export type { QueuedSample, SampleOptions } from "./samples.ts";
export type { UnaryCaller, UnaryOptions } from "./unary/caller.ts";
export { uuidv7 } from "./uuid.ts";
