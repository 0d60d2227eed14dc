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

/** What a login and a refresh answer with. */
export interface SessionAnswer {
  accessToken: string;
  refreshToken: string;
  /** Seconds. */
  expiresIn: number;
}

/** The calls of AuthService that a session needs, made without credentials. */
export interface SessionCalls {
  login(credentials: LoginCredentials): Promise<SessionAnswer>;
  refreshToken(request: { refreshToken: string }): Promise<SessionAnswer>;
  /** Whether a call failed because the session has ended. */
  isRefusal(error: unknown): boolean;
}

/**
 * Where the tokens of these credentials come from; `undefined` where they need none, or one that stays the same.
 *
 * @throws TypeError where more than one kind is given
 */
export function tokensOf(
  { apiKey, token, login }: Credentials,
  calls: SessionCalls,
): TokenSource | undefined {
  if ([apiKey, token, login].filter((given) => given !== undefined).length > 1) {
    throw new TypeError("Give one of apiKey, token and login, not several.");
  }
  if (login) return loginTokens(login, calls);
  return typeof token === "function" ? token : undefined;
}

/** Headers of credentials that stay the same. */
export function fixedHeaders({ apiKey, token }: Credentials): Record<string, string> {
  return {
    ...(apiKey !== undefined && { "x-api-key": apiKey }),
    ...(typeof token === "string" && bearer(token)),
  };
}

export function bearer(token: string): Record<string, string> {
  return { authorization: `Bearer ${token}` };
}

interface Session {
  token: string;
  refreshToken: string;
  /** Milliseconds since 1970. */
  renewAt: number;
}

/** Logs in, refreshes the session before it expires, and logs in again when it cannot be refreshed. */
function loginTokens(credentials: LoginCredentials, auth: SessionCalls): TokenSource {
  let session: Promise<Session> | undefined;

  const open = async (old: Session | undefined): Promise<Session> => {
    if (old?.refreshToken) {
      try {
        return toSession(await auth.refreshToken({ refreshToken: old.refreshToken }));
      } catch (error) {
        if (!auth.isRefusal(error)) throw error;
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

function toSession(answer: SessionAnswer): Session {
  const lifeMs = answer.expiresIn * 1000;
  return {
    token: answer.accessToken,
    refreshToken: answer.refreshToken,
    renewAt: Date.now() + lifeMs - Math.min(expiryMarginMs, lifeMs / 2),
  };
}
