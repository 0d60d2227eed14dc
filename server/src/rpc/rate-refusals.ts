/**
 * RATE_LIMITED. Who sends far too much is refused by the hundred a second, and what that costs is taken from the others: for a
 * short time the same error answers all of them.
 */
import { ConnectError } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { failure } from "./errors.ts";
import type { Pace } from "./pace.ts";
import {
  type Limited,
  type LimitName,
  ownerOf,
  type Standing,
  show,
  tellPace,
  wholeSeconds,
} from "./rate-standing.ts";
import type { Count } from "./rate-windows.ts";

/** Makes refusals, or gives those again that it has just made for the same limit. */
export interface Refusals {
  /** More calls than the minute has room for. */
  tooMany(limit: Limited, count: Count, standing: Standing): ConnectError;
  /** More calls at once than the pace allows. */
  tooFast(limit: Limited, pace: Pace, standing: Standing): ConnectError;
}

/** How long the same refusal is given: so much later may the time come that it names. */
const reuseMs = 100;
/** So that those who were refused do not come back for each call that there is room for. */
const leastPauseMs = 1_000;

const owners: Record<LimitName, string> = {
  "auth-address": "sign-ins and other open calls of AuthService from this address",
  "api-key": "calls with this API key",
  tenant: "calls of this tenant",
};

/** Keeps the refusals of `maxNames` at a time. */
export function createRefusals(maxNames: number): Refusals {
  const given = new LRUCache<string, { readonly error: ConnectError; readonly untilMs: number }>({
    max: maxNames,
  });
  const again = (limit: Limited, kind: string, make: () => ConnectError): ConnectError => {
    const name = `${kind}:${limit.quota}:${ownerOf(limit)}`;
    const now = performance.now();
    const last = given.get(name);
    if (last && last.untilMs > now) return last.error;
    const error = make();
    given.set(name, { error, untilMs: now + reuseMs });
    return error;
  };
  return {
    tooMany: (limit, { resetMs }, standing) =>
      again(limit, "many", () => {
        const told = `more than ${limit.quota} ${owners[limit.name]} in a minute; call again in ${wholeSeconds(resetMs)} s`;
        return refuse(limit, told, resetMs, standing);
      }),
    tooFast: (limit, pace, standing) =>
      again(limit, "fast", () => {
        tellPace(standing, limit, pace);
        const waitMs = Math.max(leastPauseMs, pace.waitMs);
        const told = `more than ${pace.burst} ${owners[limit.name]} at once, of ${limit.quota} in a minute; call again in ${wholeSeconds(waitMs)} s`;
        return refuse(limit, told, waitMs, standing);
      }),
  };
}

function refuse({ name }: Limited, told: string, retryAfterMs: number, standing: Standing): ConnectError {
  const error = failure(ErrorReason.RATE_LIMITED, told, { metadata: { limit: name }, retryAfterMs });
  show(error.metadata, standing);
  return error;
}

/** What was thrown, with where its caller stands; a copy, for others may be given the same error. */
export function showOnError(thrown: unknown, standing: Standing): unknown {
  if (!(thrown instanceof ConnectError)) return thrown;
  const { rawMessage, code, metadata, details, cause } = thrown;
  const error = new ConnectError(rawMessage, code, metadata, undefined, cause);
  error.details = details;
  show(error.metadata, standing);
  return error;
}
