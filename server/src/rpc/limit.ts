/**
 * Rate limits: calls a minute by client address, API key and tenant. Answers and refusals say where the caller stands in
 * the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
 */
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { AccessRule } from "./access.ts";
import { callerKey } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import { failure } from "./errors.ts";
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
    return limited(windows, [{ name: "auth-address", quota, owner: addressBlock(address) }], next, req);
  };
}

/** Limits the calls of an API key and of all credentials of a tenant, where such limits are set. */
export function limitCallerInterceptor(windows: RateWindows, tenants: TenantSettingsCache): Interceptor {
  return (next) => (req) => {
    const caller = req.contextValues.get(callerKey);
    if (!caller) return next(req);
    const keyQuota = caller.requestsPerMinute ?? 0;
    const known = tenants.peek(caller.tenantId);
    if (known && keyQuota === 0 && known.limits.requestsPerMinute === 0n) return next(req);
    const limit = (tenantQuota: number) => {
      const limits: Limited[] = [];
      if (keyQuota > 0) limits.push({ name: "api-key", quota: keyQuota, owner: caller.apiKeyId ?? "" });
      if (tenantQuota > 0) limits.push({ name: "tenant", quota: tenantQuota, owner: caller.tenantId });
      return limited(windows, limits, next, req);
    };
    if (known) return limit(Number(known.limits.requestsPerMinute));
    return tenants
      .load(caller.tenantId)
      .then((loaded) => limit(Number(loaded?.limits.requestsPerMinute ?? 0)));
  };
}

type Next = ReturnType<Interceptor>;

async function limited(
  windows: RateWindows,
  limits: readonly Limited[],
  next: Next,
  req: Parameters<Next>[0],
): ReturnType<Next> {
  const standing = new Headers();
  for (const limit of limits) {
    const count = await windows.count(`${limit.name}:${limit.owner}`);
    tell(standing, limit, count);
    if (count.calls > limit.quota) throw refuse(limit, count, standing);
  }
  try {
    const res = await next(req);
    addAll(res.header, standing);
    return res;
  } catch (error) {
    if (error instanceof ConnectError) addAll(error.metadata, standing);
    throw error;
  }
}

function tell(headers: Headers, { name, quota }: Limited, { calls, resetMs }: Count): void {
  headers.append("ratelimit-policy", `"${name}";q=${quota};w=${rateWindowMs / 1_000}`);
  headers.append("ratelimit", `"${name}";r=${Math.max(0, quota - calls)};t=${Math.ceil(resetMs / 1_000)}`);
}

function addAll(headers: Headers, more: Headers): void {
  for (const [name, value] of more) headers.append(name, value);
}

const owners: Record<LimitName, string> = {
  "auth-address": "sign-ins and other open calls of AuthService from this address",
  "api-key": "calls with this API key",
  tenant: "calls of this tenant",
};

function refuse({ name, quota }: Limited, { resetMs }: Count, standing: Headers): ConnectError {
  const error = failure(
    ErrorReason.RATE_LIMITED,
    `more than ${quota} ${owners[name]} in a minute; call again in ${Math.ceil(resetMs / 1_000)} s`,
    { metadata: { limit: name }, retryAfterMs: resetMs },
  );
  addAll(error.metadata, standing);
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
