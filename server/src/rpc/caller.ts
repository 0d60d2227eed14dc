import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import { failure } from "./errors.ts";

/** Who calls, as far as their credentials prove it. */
export interface Caller {
  /** A person with a token, a gateway with an API key, or nobody in the public tenant. */
  readonly kind: "user" | "api-key" | "anonymous";
  readonly tenantId: string;
  /** The user's id; of a key, its creator's where known. */
  readonly userId: string | undefined;
  /** API keys only. */
  readonly apiKeyId: string | undefined;
  /** Tokens of this server only: the session that they belong to. */
  readonly sessionId: string | undefined;
  readonly scopes: ReadonlySet<Scope>;
  /** The only stores that the key may use; empty: any. */
  readonly storeIds: readonly string[];
  /** The password is temporary: what administers is refused until it is changed. */
  readonly mustChangePassword: boolean;
}

export const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });

/** The caller of a method that is not public. The authorize interceptor has made sure that there is one. */
export function callerOf(context: Pick<HandlerContext, "values">): Caller {
  const caller = context.values.get(callerKey);
  if (!caller) throw missingCredentials();
  return caller;
}

/** The error for a call that needs credentials and has none. */
export function missingCredentials() {
  return failure(
    ErrorReason.MISSING_CREDENTIALS,
    "credentials are missing: send an API key as 'x-api-key: evp_…' or a token as 'authorization: Bearer …'",
  );
}

/** The error for a call that administers while the password is temporary. */
export function passwordChangeRequired() {
  return failure(
    ErrorReason.PASSWORD_CHANGE_REQUIRED,
    "the password is temporary; set your own with AuthService.ChangePassword first",
  );
}
