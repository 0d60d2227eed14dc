/** Where a caller stands, in the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10). */
import type { Pace } from "./pace.ts";
import { type Count, rateWindowMs } from "./rate-windows.ts";

/** Which limit; its name stands in the headers and in the metadata of RATE_LIMITED. */
export type LimitName = "auth-address" | "api-key" | "tenant";

/** A limit that a call counts for. */
export interface Limited {
  readonly name: LimitName;
  /** Calls a minute. */
  readonly quota: number;
  /** Whose calls are counted together. */
  readonly owner: string;
}

/** Whose calls are counted together, by one name among all limits. */
export const ownerOf = ({ name, owner }: Limited) => `${name}:${owner}`;

/** Items of the two headers. */
export interface Standing {
  readonly policies: string[];
  readonly limits: string[];
}

export const newStanding = (): Standing => ({ policies: [], limits: [] });

export const wholeSeconds = (ms: number) => Math.ceil(ms / 1_000);

export function tell(
  standing: Standing,
  limit: Limited,
  { calls, resetMs }: Count,
  pace: Pace | undefined,
): void {
  const { name, quota } = limit;
  standing.policies.push(`"${name}";q=${quota};w=${rateWindowMs / 1_000}`);
  standing.limits.push(`"${name}";r=${Math.max(0, quota - calls)};t=${wholeSeconds(resetMs)}`);
  if (pace) tellPace(standing, limit, pace);
}

export function tellPace(
  standing: Standing,
  { name }: Limited,
  { burst, windowMs, left, waitMs }: Pace,
): void {
  standing.policies.push(`"${name}-burst";q=${burst};w=${wholeSeconds(windowMs)}`);
  standing.limits.push(`"${name}-burst";r=${Math.max(0, left)};t=${wholeSeconds(waitMs)}`);
}

export function show(headers: Headers, { policies, limits }: Standing): void {
  headers.append("ratelimit-policy", policies.join(", "));
  headers.append("ratelimit", limits.join(", "));
}
