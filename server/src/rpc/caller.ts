import { createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { Role } from "../db/schema/auth.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { Scope } from "../gen/pulsewire/options/v1/access_pb.js";
import { failure } from "./errors.ts";

/** Who calls, as far as their credentials prove it. */
export interface Caller {
  /** A person with a token, a gateway with an API key, or nobody in the public tenant. */
  readonly kind: "user" | "api-key" | "anonymous";
  readonly tenantId: string;
  /** People only. */
  readonly userId: string | undefined;
  /** API keys only. */
  readonly apiKeyId: string | undefined;
  /** The person's e-mail address or the key's name, as the audit log names them; looked up there where not given. */
  readonly name?: string | undefined;
  /** Tokens of an identity provider only: the provider that vouches for the person. */
  readonly identityProviderId?: string | undefined;
  /** Tokens of this server only: the session that they belong to. */
  readonly sessionId: string | undefined;
  /** People only: what they are in the tenant. */
  readonly role?: Role | undefined;
  /** From when the credentials can no longer be used; undefined: never. */
  readonly expiresAtMs?: number | undefined;
  readonly scopes: ReadonlySet<Scope>;
  /** The only stores that the key may use; empty: any. */
  readonly storeIds: readonly string[];
  /** API keys only: calls a minute; 0: no limit of its own. */
  readonly requestsPerMinute?: number | undefined;
  /** The password is temporary: what administers is refused until it is changed. */
  readonly mustChangePassword: boolean;
}

export const callerKey = createContextKey<Caller | undefined>(undefined, { description: "caller" });

const refused = new WeakMap<object, Caller>();

/** Says whose call an error refuses, where the credentials are known and yet not good enough, for the audit log. */
export function blame<E extends object>(error: E, caller: Caller): E {
  refused.set(error, caller);
  return error;
}

/** Whose call an error refuses; undefined where nobody knows. */
export function refusedCaller(error: object): Caller | undefined {
  return refused.get(error);
}

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

/** The error for credentials of a tenant that the operator has closed. */
export function tenantSuspended() {
  return failure(
    ErrorReason.TENANT_SUSPENDED,
    "the operator has closed this tenant; its data stay, ask the operator to open it again",
  );
}
