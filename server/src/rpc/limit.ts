/**
 * Rate limits: calls a minute by client address, API key and tenant. Where they are more than a hundred, those of keys and tenants
 * do not all come at once: see `pace.ts`. Answers and refusals say where the caller stands in the headers `RateLimit-Policy`
 * and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
 */
import type { DescMethod } from "@bufbuild/protobuf";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import { AuthService } from "../gen/pulsewire/auth/v1/auth_service_pb.js";
import type { AccessRule } from "./access.ts";
import { type Caller, callerKey } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import {
  type Answer,
  type AnyRequest,
  type Interceptor,
  isPromise,
  type Next,
  settle,
} from "./interceptor.ts";
import { createPaceKeeper, type PaceKeeper } from "./pace.ts";
import { createRefusals, type Refusals, showOnError } from "./rate-refusals.ts";
import { type Limited, newStanding, ownerOf, show, tell } from "./rate-standing.ts";
import type { Count, RateWindows } from "./rate-windows.ts";

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

/** Limits the calls of these methods, all together, by client address, of at most `maxNames` at a time; before credentials are looked at. 0: no limit. */
export function limitAddressInterceptor(
  windows: RateWindows,
  methods: ReadonlySet<DescMethod>,
  quota: number,
  maxNames: number,
): Interceptor {
  const keeping: Keeping = { windows, paces: undefined, refusals: createRefusals(maxNames) };
  return (next) => (req) => {
    if (quota === 0 || !methods.has(req.method)) return next(req);
    const address = req.contextValues.get(clientAddressKey);
    const limits: Limited[] = [{ name: "auth-address", quota, owner: addressBlock(address) }];
    return limited(keeping, limits, next, req);
  };
}

/** Limits the calls of an API key and of all credentials of a tenant, where such limits are set; of at most `maxNames` at a time. */
export function limitCallerInterceptor(
  windows: RateWindows,
  tenants: TenantSettingsCache,
  maxNames: number,
): Interceptor {
  const keeping: Keeping = {
    windows,
    paces: createPaceKeeper(maxNames),
    refusals: createRefusals(maxNames),
  };
  return (next) => (req) => {
    const caller = req.contextValues.get(callerKey);
    if (!caller) return next(req);
    const answer = (tenantQuota: number) => {
      const limits = limitsOf(caller, tenantQuota);
      return limits.length === 0 ? next(req) : limited(keeping, limits, next, req);
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

/** What is known of those who call. */
interface Keeping {
  readonly windows: RateWindows;
  readonly paces: PaceKeeper | undefined;
  readonly refusals: Refusals;
}

/** Counts a call for each of the limits, refuses it for the first that it is too many for, or goes on. */
function limited(
  { windows, paces, refusals }: Keeping,
  limits: readonly Limited[],
  next: Next,
  req: AnyRequest,
): Answer {
  const standing = newStanding();
  const from = (index: number): Answer => {
    const limit = limits[index];
    if (!limit) return goOn();
    // What comes too fast is not counted: else who does not heed it would be shut out for the rest of the minute.
    const pace = paces?.take(ownerOf(limit), limit.quota);
    if (pace && pace.left < 0) throw refusals.tooFast(limit, pace, standing);
    const judge = (count: Count): Answer => {
      tell(standing, limit, count, pace);
      if (count.calls > limit.quota) throw refusals.tooMany(limit, count, standing);
      return from(index + 1);
    };
    const count = windows.count(ownerOf(limit));
    return isPromise(count) ? count.then(judge) : judge(count);
  };
  const goOn = () =>
    settle(
      next,
      req,
      (res) => {
        show(res.header, standing);
        return res;
      },
      (error) => {
        throw showOnError(error, standing);
      },
    );
  return from(0);
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
