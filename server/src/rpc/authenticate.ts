import type { ContextValues } from "@connectrpc/connect";
import type { Credentials } from "../auth/credentials.ts";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { tenantSlugOf } from "../progress/clients.ts";
import { type Caller, callerKey } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import { failure } from "./errors.ts";
import { type AnyRequest, type Interceptor, isPromise } from "./interceptor.ts";

/** Names the tenant, by its slug, whose identity provider has issued the token. */
const tenantHeader = "x-pulsewire-tenant";

/**
 * Finds out who calls, from `x-api-key` or `authorization: Bearer` (a token, or an API key where a tool offers nothing
 * else; or `Basic` with an API key as the password, whoever the user). Wrong credentials are refused even on public methods: they are a mistake that should not go unnoticed.
 */
export function authenticateInterceptor(credentials: Credentials): Interceptor {
  const fromApiKey = (secret: string, values: ContextValues) =>
    credentials.fromApiKey(secret, values.get(clientAddressKey));
  const callerFrom = (req: AnyRequest): Caller | Promise<Caller> | undefined => {
    const apiKey = req.header.get("x-api-key");
    if (apiKey !== null) return fromApiKey(apiKey.trim(), req.contextValues);
    const authorization = req.header.get("authorization");
    if (authorization === null) return undefined;
    const bearer = /^bearer +(\S+)$/i.exec(authorization.trim())?.[1] ?? keyInBasic(authorization);
    if (bearer === undefined) {
      throw failure(ErrorReason.INVALID_TOKEN, "the header 'authorization' must read 'Bearer' and a token");
    }
    return bearer.startsWith("evp_")
      ? fromApiKey(bearer, req.contextValues)
      : credentials.fromToken(bearer, tenantNamedBy(req));
  };
  return (next) => (req) => {
    const goOn = (caller: Caller | undefined) => {
      if (caller) req.contextValues.set(callerKey, caller);
      return next(req);
    };
    const caller = callerFrom(req);
    return isPromise(caller) ? caller.then(goOn) : goOn(caller);
  };
}

/** The API key that is the password of basic authentication. */
function keyInBasic(authorization: string): string | undefined {
  const encoded = /^basic +([A-Za-z0-9+/=]+)$/i.exec(authorization.trim())?.[1];
  const password = encoded && /:(.*)$/s.exec(Buffer.from(encoded, "base64").toString("utf8"))?.[1];
  return password?.startsWith("evp_") ? password : undefined;
}

/** The header wins; without it, the KRN of a client names its tenant (Pebbles), in calls that are not streams. */
function tenantNamedBy(req: AnyRequest): string | undefined {
  const named = req.header.get(tenantHeader)?.trim();
  if (named || req.stream) return named;
  const { clientKrn } = req.message as { clientKrn?: string };
  return clientKrn === undefined ? undefined : tenantSlugOf(clientKrn);
}
