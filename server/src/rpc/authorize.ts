import type { DescMethod } from "@bufbuild/protobuf";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import type { AccessRule } from "./access.ts";
import { type Caller, callerKey, missingCredentials, passwordChangeRequired } from "./caller.ts";
import { failure } from "./errors.ts";
import type { Interceptor } from "./interceptor.ts";

/**
 * Lets a call through only when the method's access rule says so. A method without a rule is refused.
 * `publicTenant` is who anonymous callers of open reads are, or undefined where the operator opened none.
 */
export function authorizeInterceptor(
  rules: ReadonlyMap<DescMethod, AccessRule>,
  publicTenant: () => Caller | undefined,
): Interceptor {
  return (next) => (req) => {
    const rule = rules.get(req.method);
    if (!rule) {
      throw failure(
        ErrorReason.DISABLED,
        `${req.service.typeName}/${req.method.name} may be called by nobody`,
      );
    }
    if (rule.kind === "public") return next(req);
    let caller = req.contextValues.get(callerKey);
    if (!caller && rule.openInPublicTenant) {
      caller = publicTenant();
      if (caller) req.contextValues.set(callerKey, caller);
    }
    if (!caller) throw missingCredentials();
    if (
      rule.kind === "scopes" &&
      caller.kind !== "anonymous" &&
      !rule.anyOf.some((scope) => caller.scopes.has(scope))
    ) {
      if (caller.mustChangePassword) throw passwordChangeRequired();
      const scopes = rule.anyOf.map((scope) => Scope[scope]).join(" or ");
      throw failure(
        ErrorReason.MISSING_SCOPE,
        `${req.method.name} needs the scope ${scopes}, which this caller lacks`,
        {
          metadata: { method: `${req.service.typeName}/${req.method.name}`, scopes },
        },
      );
    }
    return next(req);
  };
}
