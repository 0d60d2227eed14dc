import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { AuthService } from "./gen/pulsewire/auth/v1/auth_service_pb.js";

/** E-mail address and password of a person. */
export interface LoginCredentials {
  /** E-mail address. */
  email: string;
  /** Password, temporary or own. */
  password: string;
  /** Slug of the tenant, such as `acme`. */
  tenantSlug: string;
}

/** Who calls: at most one of these. None: only methods that are open to all can be called. */
export interface Credentials {
  /** An API key, `evp_…`; sent as `x-api-key`. */
  apiKey?: string;
  /** An access token of AuthService or of an identity provider; sent as `authorization: Bearer …`. */
  token?: string;
  /** Logs in at the first call, and again when the session has expired or ended. */
  login?: LoginCredentials;
}

/** A new token is asked for this long before the old one expires, in milliseconds. */
const expiryMarginMs = 30_000;

/**
 * Adds the credentials to every call.
 *
 * @param bare a transport without this interceptor, for the login itself
 * @throws TypeError where more than one kind is given
 */
export function authenticate(credentials: Credentials, bare: Transport): Interceptor {
  const { apiKey, token, login } = credentials;
  if ([apiKey, token, login].filter((given) => given !== undefined).length > 1) {
    throw new TypeError("Give one of apiKey, token and login, not several.");
  }
  if (login) return loginInterceptor(login, bare);
  return (next) => (request) => {
    if (apiKey !== undefined) request.header.set("x-api-key", apiKey);
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}

function loginInterceptor(credentials: LoginCredentials, bare: Transport): Interceptor {
  const auth = createClient(AuthService, bare);
  let session: Promise<Session> | undefined;

  // Calls that arrive during a login share it; a failed one is forgotten, so that the next call tries again.
  const logIn = (): Promise<Session> => {
    const attempt = auth.login(credentials).then(({ accessToken, expiresIn }) => ({
      token: accessToken,
      renewAt: Date.now() + expiresIn * 1000 - expiryMarginMs,
    }));
    session = attempt;
    attempt.catch(() => {
      if (session === attempt) session = undefined;
    });
    return attempt;
  };
  const current = async (): Promise<Session> => {
    const known = session;
    const held = known && (await known);
    if (held && held.renewAt > Date.now()) return held;
    return session && session !== known ? session : logIn();
  };

  return (next) => async (request) => {
    const used = await current();
    request.header.set("authorization", `Bearer ${used.token}`);
    try {
      return await next(request);
    } catch (error) {
      // The messages of a stream cannot be sent a second time; its next call logs in instead.
      if (!(error instanceof ConnectError) || error.code !== Code.Unauthenticated) throw error;
      const latest = session && (await session.catch(() => undefined));
      if (latest === used) session = undefined;
      if (request.stream) throw error;
      const { token } = await current();
      request.header.set("authorization", `Bearer ${token}`);
      return next(request);
    }
  };
}

interface Session {
  token: string;
  /** Milliseconds since 1970. */
  renewAt: number;
}
