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

/**
 * Gives an access token, asked before each call.
 *
 * @param refused the token that the server has refused last: give another one than that
 */
export type TokenSource = (refused: string | undefined) => string | Promise<string>;

/** Who calls: at most one of these. None: only methods that are open to all can be called. */
export interface Credentials {
  /** An API key, `evp_…`; sent as `x-api-key`. */
  apiKey?: string;
  /** An access token of AuthService or of an identity provider, or where to get one; sent as `authorization: Bearer …`. */
  token?: string | TokenSource;
  /** Logs in at the first call; the session is refreshed before it expires, and opened again when it has ended. */
  login?: LoginCredentials;
}

/** A new token is asked for this long before the old one expires, in milliseconds; earlier where it lives briefly. */
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
  if (login) return renewing(loginTokens(login, bare));
  if (typeof token === "function") return renewing(token);
  return (next) => (request) => {
    if (apiKey !== undefined) request.header.set("x-api-key", apiKey);
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
}

/** Sends tokens of the source, and asks for another one when the server refuses one. */
function renewing(tokens: TokenSource): Interceptor {
  let refused: string | undefined;
  return (next) => async (request) => {
    const used = await tokens(refused);
    request.header.set("authorization", `Bearer ${used}`);
    const note = (error: unknown) => {
      const isRefusal = error instanceof ConnectError && error.code === Code.Unauthenticated;
      if (isRefusal) refused = used;
      return isRefusal;
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: noting(response.message, note) } : response;
    } catch (error) {
      // The messages of a stream cannot be sent a second time; its next call has another token.
      if (!note(error) || request.stream) throw error;
      request.header.set("authorization", `Bearer ${await tokens(used)}`);
      return next(request);
    }
  };
}

/** Most protocols tell of a refused stream only where its messages would come. */
async function* noting<T>(messages: AsyncIterable<T>, note: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    note(error);
    throw error;
  }
}

interface Session {
  token: string;
  refreshToken: string;
  /** Milliseconds since 1970. */
  renewAt: number;
}

/** Logs in, refreshes the session before it expires, and logs in again when it cannot be refreshed. */
function loginTokens(credentials: LoginCredentials, bare: Transport): TokenSource {
  const auth = createClient(AuthService, bare);
  let session: Promise<Session> | undefined;

  const open = async (old: Session | undefined): Promise<Session> => {
    if (old?.refreshToken) {
      try {
        return toSession(await auth.refreshToken({ refreshToken: old.refreshToken }));
      } catch (error) {
        if (ConnectError.from(error).code !== Code.Unauthenticated) throw error;
      }
    }
    return toSession(await auth.login(credentials));
  };
  // Calls that arrive during a login share it; a failed one is forgotten, so that the next call tries again.
  const renew = (old: Session | undefined): Promise<Session> => {
    const attempt = open(old);
    session = attempt;
    attempt.catch(() => {
      if (session === attempt) session = undefined;
    });
    return attempt;
  };
  return async (refused) => {
    const known = session;
    const held = known && (await known);
    if (held && held.token !== refused && held.renewAt > Date.now()) return held.token;
    const { token } = await (session && session !== known ? session : renew(held));
    return token;
  };
}

function toSession(answer: { accessToken: string; refreshToken: string; expiresIn: number }): Session {
  const lifeMs = answer.expiresIn * 1000;
  return {
    token: answer.accessToken,
    refreshToken: answer.refreshToken,
    renewAt: Date.now() + lifeMs - Math.min(expiryMarginMs, lifeMs / 2),
  };
}
