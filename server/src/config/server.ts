/** The processes and their port: where they listen, whom they believe, how they log and end. */
import { isAddressRange } from "../rpc/address-ranges.ts";
import type { ForwardedHeader } from "../rpc/client-address.ts";
import type { Settings } from "./setting-names.ts";
import { ConfigError, integer, megabyte, oneOf } from "./values.ts";

/** What a process does. */
export type Role = "serve" | "api" | "worker";

export interface ServerConfig {
  /** `api` answers calls, `worker` does the background work, `serve`, the default, does both. Health is answered by all. */
  readonly role: Role;
  /** Processes that share the port. Default 1. */
  readonly processes: number;
  /** Where to listen. 127.0.0.1 with the embedded database, 0.0.0.0 with an outside one. */
  readonly host: string;
  /** 0 picks a free port. Default 8080. */
  readonly port: number;
  /** Certificate and key files in PEM; without them the port is cleartext. */
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined;
  /** Browser origins that may call; `*` for all (credentials are headers, never cookies).
   * Default: all with the embedded database, none with an outside one. */
  readonly corsOrigins: readonly string[];
  /** Addresses and prefixes of the proxies that are believed about where a call came from. Default: none. */
  readonly trustedProxies: readonly string[];
  /** The header that these proxies write. Default x-forwarded-for. */
  readonly forwardedHeader: ForwardedHeader;
  /** Largest request message after decompression, bytes. Default 16 MiB. */
  readonly maxMessageBytes: number;
  /** Addresses, keys and tenants whose calls are counted in this process at the same time. */
  readonly countedCallers: number;
  /** How long running calls may take to finish after SIGTERM, milliseconds. Default 30 s. */
  readonly drainTimeoutMs: number;
  /** pino's levels, in any case; `WARNING` and `CRITICAL` are understood. Default info. */
  readonly logLevel: string;
  /** Bearer token for `GET /metrics`; undefined: served without one in development, not at all elsewhere. */
  readonly metricsToken: string | undefined;
}

export function serverConfig(env: Settings, embedded: boolean): ServerConfig {
  if (!env.PULSEWIRE_TLS_CERT_FILE !== !env.PULSEWIRE_TLS_KEY_FILE) {
    throw new ConfigError("PULSEWIRE_TLS_CERT_FILE and PULSEWIRE_TLS_KEY_FILE go together; set both or none");
  }
  return {
    role: oneOf(env, "PULSEWIRE_ROLE", ["serve", "api", "worker"]) ?? "serve",
    processes: integer(env, "PULSEWIRE_PROCESSES", 1, 1, 64),
    host: env.HOST ?? (embedded ? "127.0.0.1" : "0.0.0.0"),
    port: integer(env, "PORT", 8080, 0, 65_535),
    tls:
      env.PULSEWIRE_TLS_CERT_FILE && env.PULSEWIRE_TLS_KEY_FILE
        ? { certFile: env.PULSEWIRE_TLS_CERT_FILE, keyFile: env.PULSEWIRE_TLS_KEY_FILE }
        : undefined,
    corsOrigins:
      env.PULSEWIRE_CORS_ORIGINS?.split(",").map((origin) => origin.trim()) ?? (embedded ? ["*"] : []),
    trustedProxies: trustedProxies(env),
    forwardedHeader:
      oneOf(env, "PULSEWIRE_FORWARDED_HEADER", ["x-forwarded-for", "forwarded"]) ?? "x-forwarded-for",
    maxMessageBytes: integer(env, "PULSEWIRE_MAX_MESSAGE_BYTES", 16 * megabyte, 65_536, 256 * megabyte),
    countedCallers: 100_000,
    drainTimeoutMs: integer(env, "PULSEWIRE_DRAIN_TIMEOUT", 30, 0, 3_600) * 1_000,
    logLevel: logLevel(env.LOG_LEVEL),
    metricsToken: metricsToken(env),
  };
}

/** Addresses and prefixes, with commas. */
function trustedProxies({ PULSEWIRE_TRUSTED_PROXIES: text = "" }: Settings): string[] {
  const ranges = text
    .split(",")
    .map((range) => range.trim())
    .filter(Boolean);
  const wrong = ranges.find((range) => !isAddressRange(range));
  if (wrong === undefined) return ranges;
  throw new ConfigError(
    `PULSEWIRE_TRUSTED_PROXIES has '${wrong}'; it must list addresses or prefixes, such as 10.0.0.0/8,::1`,
  );
}

/** A secret that scrapers of metrics send. */
function metricsToken({ PULSEWIRE_METRICS_TOKEN: text }: Settings): string | undefined {
  if (text === undefined || text.length >= 16) return text;
  throw new ConfigError(
    "PULSEWIRE_METRICS_TOKEN is too short; use at least 16 characters, such as `openssl rand -hex 16`",
  );
}

const logLevels: Record<string, string> = {
  trace: "trace",
  debug: "debug",
  info: "info",
  warn: "warn",
  warning: "warn",
  error: "error",
  critical: "fatal",
  fatal: "fatal",
  silent: "silent",
};

/** A level of pino, from its usual names. */
function logLevel(text = "info"): string {
  const level = logLevels[text.toLowerCase()];
  if (!level)
    throw new ConfigError(`LOG_LEVEL is '${text}'; it must be one of ${Object.keys(logLevels).join(", ")}`);
  return level;
}
