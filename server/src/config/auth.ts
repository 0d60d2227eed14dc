/** Credentials: tokens, sessions, passwords, e-mail codes, API keys and identity providers. */
import type { Settings } from "./setting-names.ts";
import { ConfigError, dayMs, integer, oneOf } from "./values.ts";

export interface AuthConfig {
  /** Given: tokens are signed with HS256 and this secret; otherwise EdDSA with keys from the database. */
  readonly jwtSecret: string | undefined;
  /** `iss` of tokens. */
  readonly issuer: string;
  /** Life of an access token, seconds. Default 3,600. */
  readonly accessTokenTtlSeconds: number;
  /** Life of a refresh token, and so of a session that is not used, seconds. Default 30 days. */
  readonly refreshTokenTtlSeconds: number;
  /** Whether anyone gets a token. Default: with the embedded database on loopback only. */
  readonly developmentTokens: boolean;
  /** Life of a development token, seconds. Default 86,400. */
  readonly developmentTokenTtlSeconds: number;
  /** How long a key signs tokens before the next one does, milliseconds. Default 30 days. */
  readonly signingKeyPeriodMs: number;
  /** How long before it signs a key stands in the JWKS, milliseconds. Default 1 hour. */
  readonly signingKeyLeadMs: number;
  /** Sessions whose standing is remembered. */
  readonly sessionCacheSize: number;

  /** How long a checked API key is trusted without a look at the database, seconds. Default 300. */
  readonly apiKeyCacheTtlSeconds: number;
  /** API keys whose check is remembered. */
  readonly apiKeyCacheSize: number;
  /** Wrong API keys that are remembered to be wrong. */
  readonly unknownApiKeyCacheSize: number;
  /** How often the last use of API keys is written, milliseconds. Default 20 s, at most a minute. */
  readonly apiKeyUseIntervalMs: number;

  /** Open calls of AuthService a minute from one client address. Default 100 (Event Processor); 0: without limit. */
  readonly callsPerMinute: number;
  /** Wrong passwords for an account before one more locks it. */
  readonly loginFreeFailures: number;
  /** How long the first lock of an account lasts, milliseconds; each further wrong password doubles it. Default 1 s. */
  readonly loginLockMs: number;
  /** The longest lock. */
  readonly loginLockMaxMs: number;
  /** After how long without a wrong password they are forgotten. */
  readonly loginFailureMemoryMs: number;
  /** Sign-ins to one account that may wait for each other in this process. */
  readonly loginQueue: number;
  /** Life of an e-mail code, milliseconds. */
  readonly codeTtlMs: number;
  /** How long until another code can be asked for. */
  readonly codeResendMs: number;
  /** Codes for one address in an hour. */
  readonly codesPerHour: number;
  /** Attempts that a code has. */
  readonly codeAttempts: number;

  readonly identityProviders: IdentityProvidersConfig;
}

export interface IdentityProvidersConfig {
  /** Whether identity providers may be at http and private addresses, as on premises or in tests. Default: no. */
  readonly allowPrivateIssuers: boolean;
  /** How long their keys are kept before they are fetched again, milliseconds. Default 10 minutes. */
  readonly jwksCacheMs: number;
  /** How often an unknown key id may cause a fetch, milliseconds. Default 30 s. */
  readonly jwksCooldownMs: number;
}

export function authConfig(env: Settings, embedded: boolean): AuthConfig {
  return {
    jwtSecret: jwtSecret(env),
    issuer: env.PULSEWIRE_TOKEN_ISSUER ?? "pulsewire",
    accessTokenTtlSeconds: integer(env, "PULSEWIRE_ACCESS_TOKEN_TTL", 3_600, 60, 7 * 86_400),
    refreshTokenTtlSeconds: integer(env, "PULSEWIRE_REFRESH_TOKEN_TTL", 30 * 86_400, 60, 366 * 86_400),
    developmentTokens: developmentTokens(env, embedded),
    developmentTokenTtlSeconds: integer(env, "PULSEWIRE_DEVELOPMENT_TOKEN_TTL", 86_400, 60, 366 * 86_400),
    ...signingKeys(env),
    sessionCacheSize: 100_000,
    apiKeyCacheTtlSeconds: integer(env, "API_KEY_CACHE_TTL", 300, 0, 86_400),
    apiKeyCacheSize: 100_000,
    unknownApiKeyCacheSize: 10_000,
    apiKeyUseIntervalMs: integer(env, "PULSEWIRE_API_KEY_USE_INTERVAL", 20, 1, 60) * 1_000,
    callsPerMinute: integer(env, "PULSEWIRE_AUTH_RATE_LIMIT", 100, 0, 1_000_000_000),
    loginFreeFailures: 4,
    loginLockMs: integer(env, "PULSEWIRE_LOGIN_LOCK", 1, 1, 900) * 1_000,
    loginLockMaxMs: 15 * 60_000,
    loginFailureMemoryMs: dayMs,
    loginQueue: 64,
    codeTtlMs: 10 * 60_000,
    codeResendMs: 30_000,
    codesPerHour: 10,
    codeAttempts: 5,
    identityProviders: {
      allowPrivateIssuers: oneOf(env, "PULSEWIRE_ALLOW_PRIVATE_ISSUERS", ["on", "off"]) === "on",
      jwksCacheMs: integer(env, "PULSEWIRE_JWKS_CACHE_TTL", 600, 1, 86_400) * 1_000,
      jwksCooldownMs: integer(env, "PULSEWIRE_JWKS_COOLDOWN", 30, 1, 3_600) * 1_000,
    },
  };
}

function jwtSecret({ JWT_SECRET_KEY: secret }: Settings): string | undefined {
  if (secret === undefined || Buffer.byteLength(secret) >= 32) return secret;
  throw new ConfigError(
    "JWT_SECRET_KEY is too short for HS256; use at least 32 bytes, such as `openssl rand -hex 32`",
  );
}

function signingKeys(env: Settings): Pick<AuthConfig, "signingKeyPeriodMs" | "signingKeyLeadMs"> {
  const period = integer(env, "PULSEWIRE_SIGNING_KEY_PERIOD", 30 * 86_400, 2, 3_650 * 86_400);
  const lead = integer(env, "PULSEWIRE_SIGNING_KEY_LEAD", Math.min(3_600, period - 1), 1, 86_400);
  if (lead >= period) {
    throw new ConfigError("PULSEWIRE_SIGNING_KEY_LEAD must be less than PULSEWIRE_SIGNING_KEY_PERIOD");
  }
  return { signingKeyPeriodMs: period * 1_000, signingKeyLeadMs: lead * 1_000 };
}

/** Open on the embedded default only where nobody but this machine can ask. */
function developmentTokens(env: Settings, embedded: boolean): boolean {
  const asked = oneOf(env, "PULSEWIRE_DEVELOPMENT_TOKENS", ["on", "off"]);
  if (asked !== undefined) return asked === "on";
  return embedded && /^(localhost|127(\.\d{1,3}){3}|::1)$/.test(env.HOST ?? "127.0.0.1");
}
