/**
 * Rate limits: calls a minute by client address, API key and tenant. Where they are more than a hundred, those of keys and tenants
 * do not all come at once: see `pace.ts`. Answers and refusals say where the caller stands in the headers `RateLimit-Policy`
 * and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
 */
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { AccessRule } from "./access.ts";
import { type Caller, callerKey } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import { failure } from "./errors.ts";
import type { AnyRequest, AnyResponse, Interceptor, Next } from "./interceptor.ts";
import { createPaceKeeper, type Pace, type PaceKeeper } from "./pace.ts";
import { type Count, type RateWindows, rateWindowMs } from "./rate-windows.ts";

/** Which limit; its name stands in the headers and in the metadata of RATE_LIMITED. */
type LimitName = "auth-address" | "api-key" | "tenant";

interface Limited {
  readonly name: LimitName;
  /** Calls a minute. */
  readonly quota: number;
  /** Whose calls are counted together. */
  readonly owner: string;
}

/**
 * The methods that count for a client address: those of AuthService that anyone may call, and the one that checks a
 * password of somebody who is signed in.
 */
export function methodsLimitedByAddress(rules: ReadonlyMap<DescMethod, AccessRule>): Set<DescMethod> {
  const open = [...rules].flatMap(([method, { kind }]) =>
    kind === "public" && method.parent.typeName === AuthService.typeName ? [method] : [],
  );
  return new Set([...open, AuthService.method.changePassword]);
}

/** Limits the calls of these methods, all together, by client address; before credentials are looked at. 0: no limit. */
export function limitAddressInterceptor(
  windows: RateWindows,
  methods: ReadonlySet<DescMethod>,
  quota: number,
): Interceptor {
  return (next) => (req) => {
    if (quota === 0 || !methods.has(req.method)) return next(req);
    const address = req.contextValues.get(clientAddressKey);
    const limits: Limited[] = [{ name: "auth-address", quota, owner: addressBlock(address) }];
    return limited(windows, undefined, limits, next, req);
  };
}

/** Limits the calls of an API key and of all credentials of a tenant, where such limits are set; of at most `maxNames` at a time. */
export function limitCallerInterceptor(
  windows: RateWindows,
  tenants: TenantSettingsCache,
  maxNames: number,
): Interceptor {
  const paces = createPaceKeeper(maxNames);
  return (next) => (req) => {
    const caller = req.contextValues.get(callerKey);
    if (!caller) return next(req);
    const answer = (tenantQuota: number) => {
      const limits = limitsOf(caller, tenantQuota);
      return limits.length === 0 ? next(req) : limited(windows, paces, limits, next, req);
    };
    const known = tenants.peek(caller.tenantId);
    if (known) return answer(Number(known.limits.requestsPerMinute));
    return tenants
      .load(caller.tenantId)
      .then((loaded) => answer(Number(loaded?.limits.requestsPerMinute ?? 0)));
  };
}

const unlimited: readonly Limited[] = [];

function limitsOf({ requestsPerMinute: keyQuota = 0, apiKeyId, tenantId }: Caller, tenantQuota: number) {
  if (keyQuota === 0 && tenantQuota === 0) return unlimited;
  const limits: Limited[] = [];
  if (keyQuota > 0) limits.push({ name: "api-key", quota: keyQuota, owner: apiKeyId ?? "" });
  if (tenantQuota > 0) limits.push({ name: "tenant", quota: tenantQuota, owner: tenantId });
  return limits;
}

/** Items of the two headers. */
interface Standing {
  readonly policies: string[];
  readonly limits: string[];
}

async function limited(
  windows: RateWindows,
  paces: PaceKeeper | undefined,
  limits: readonly Limited[],
  next: Next,
  req: AnyRequest,
): Promise<AnyResponse> {
  const standing: Standing = { policies: [], limits: [] };
  for (const limit of limits) {
    const owner = `${limit.name}:${limit.owner}`;
    // What comes too fast is not counted: else who does not heed it would be shut out for the rest of the minute.
    const pace = paces?.take(owner, limit.quota);
    if (pace && pace.left < 0) throw tooFast(limit, pace, standing);
    const counted = windows.count(owner);
    const count = "calls" in counted ? counted : await counted;
    tell(standing, limit, count, pace);
    if (count.calls > limit.quota) throw tooMany(limit, count, standing);
  }
  try {
    const res = await next(req);
    show(res.header, standing);
    return res;
  } catch (error) {
    if (error instanceof ConnectError) show(error.metadata, standing);
    throw error;
  }
}

const wholeSeconds = (ms: number) => Math.ceil(ms / 1_000);

function tell(standing: Standing, limit: Limited, { calls, resetMs }: Count, pace: Pace | undefined): void {
  const { name, quota } = limit;
  standing.policies.push(`"${name}";q=${quota};w=${rateWindowMs / 1_000}`);
  standing.limits.push(`"${name}";r=${Math.max(0, quota - calls)};t=${wholeSeconds(resetMs)}`);
  if (pace) tellPace(standing, limit, pace);
}

function tellPace(standing: Standing, { name }: Limited, { burst, windowMs, left, waitMs }: Pace): void {
  standing.policies.push(`"${name}-burst";q=${burst};w=${wholeSeconds(windowMs)}`);
  standing.limits.push(`"${name}-burst";r=${Math.max(0, left)};t=${wholeSeconds(waitMs)}`);
}

function show(headers: Headers, { policies, limits }: Standing): void {
  headers.append("ratelimit-policy", policies.join(", "));
  headers.append("ratelimit", limits.join(", "));
}

const owners: Record<LimitName, string> = {
  "auth-address": "sign-ins and other open calls of AuthService from this address",
  "api-key": "calls with this API key",
  tenant: "calls of this tenant",
};

function tooMany({ name, quota }: Limited, { resetMs }: Count, standing: Standing): ConnectError {
  const told = `more than ${quota} ${owners[name]} in a minute; call again in ${wholeSeconds(resetMs)} s`;
  return refuse(name, told, resetMs, standing);
}

/** So that those who were refused do not come back for each call that there is room for. */
const leastPauseMs = 1_000;

function tooFast(limit: Limited, pace: Pace, standing: Standing): ConnectError {
  const { name, quota } = limit;
  tellPace(standing, limit, pace);
  const waitMs = Math.max(leastPauseMs, pace.waitMs);
  const told = `more than ${pace.burst} ${owners[name]} at once, of ${quota} in a minute; call again in ${wholeSeconds(waitMs)} s`;
  return refuse(name, told, waitMs, standing);
}

function refuse(limit: LimitName, told: string, retryAfterMs: number, standing: Standing): ConnectError {
  const error = failure(ErrorReason.RATE_LIMITED, told, { metadata: { limit }, retryAfterMs });
  show(error.metadata, standing);
  return error;
}

/** Whoever has one IPv6 address has the 2^64 of its network: they count together. */
export function addressBlock(address: string): string {
  if (!address.includes(":")) return address;
  const [left = "", right] = address.split("::");
  const head = left.split(":").filter(Boolean);
  const tail = right?.split(":").filter(Boolean) ?? [];
  const zeros = right === undefined ? 0 : Math.max(0, 8 - head.length - tail.length);
  const groups = [...head, ...Array<string>(zeros).fill("0"), ...tail].slice(0, 4);
  return `${groups.map((group) => Number.parseInt(group, 16).toString(16)).join(":")}::/64`;
}
