import type { Interceptor } from "@connectrpc/connect";
import type { TenantSettingsCache } from "../auth/tenants/settings.ts";
import { callerKey, tenantSuspended } from "./caller.ts";
import { amended, wrapStream } from "./stream.ts";

/**
 * Refuses every call with credentials of a suspended tenant, and open reads in it; ends its streams with their next
 * message. Costs no query once the tenant is known.
 */
export function suspensionInterceptor(tenants: TenantSettingsCache): Interceptor {
  return (next) => async (req) => {
    const tenantId = req.contextValues.get(callerKey)?.tenantId;
    if (tenantId === undefined) return next(req);
    const settings = tenants.peek(tenantId) ?? (await tenants.load(tenantId));
    if (settings?.suspended) throw tenantSuspended();
    if (!req.stream && req.method.methodKind === "unary") return next(req);

    const check = () => {
      const known = tenants.peek(tenantId);
      // Read in the background: a message or two later the answer is there.
      if (!known) tenants.load(tenantId).catch(() => {});
      if (known?.suspended) throw tenantSuspended();
    };
    const guarded = req.stream
      ? amended(req, { message: wrapStream(req.message, { onMessage: check }) })
      : req;
    const res = await next(guarded);
    return res.stream ? { ...res, message: wrapStream(res.message, { onMessage: check }) } : res;
  };
}
