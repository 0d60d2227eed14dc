/** Reads single settings: checks what is there and says what to set instead. */

import type { Config, SettingName, Settings } from "./config.ts";
import { isAddressRange } from "./rpc/address-ranges.ts";

/** A setting that cannot be used; the message names it and says what to set. */
export class ConfigError extends Error {
  override name = "ConfigError";
}

/** A whole number within bounds. */
export function integer(
  env: Settings,
  name: SettingName,
  fallback: number,
  min: number,
  max: number,
): number {
  const text = env[name];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new ConfigError(`${name} is '${text}'; it must be a whole number from ${min} to ${max}`);
  }
  return value;
}

/** One of some words; undefined where nothing is set. */
export function oneOf<T extends string>(
  env: Settings,
  name: SettingName,
  words: readonly T[],
): T | undefined {
  const text = env[name];
  const word = words.find((candidate) => candidate === text);
  if (text !== undefined && word === undefined) {
    throw new ConfigError(`${name} is '${text}'; it must be one of ${words.join(", ")}`);
  }
  return word;
}

/** Addresses and prefixes, with commas. */
export function trustedProxies({ PULSEWIRE_TRUSTED_PROXIES: text = "" }: Settings): string[] {
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

/** A Redis URL. */
export function redisUrl({ REDIS_URL: text }: Settings): string | undefined {
  if (text === undefined || (URL.canParse(text) && /^rediss?:$/.test(new URL(text).protocol))) return text;
  throw new ConfigError("REDIS_URL must look like redis://user:password@host:6379/0, or rediss:// for TLS");
}

/** Where the Docker Engine API is. */
export function dockerHost({
  PULSEWIRE_DOCKER_HOST: text = "unix:///var/run/docker.sock",
}: Settings): string {
  if (/^unix:\/\/\/./.test(text) || (URL.canParse(text) && /^(tcp|https?):$/.test(new URL(text).protocol)))
    return text;
  throw new ConfigError(
    `PULSEWIRE_DOCKER_HOST is '${text}'; it must be a socket such as unix:///var/run/docker.sock, or an address such as ` +
      "tcp://127.0.0.1:2375",
  );
}

/** A secret that scrapers of metrics send. */
export function metricsToken({ PULSEWIRE_METRICS_TOKEN: text }: Settings): string | undefined {
  if (text === undefined || text.length >= 16) return text;
  throw new ConfigError(
    "PULSEWIRE_METRICS_TOKEN is too short; use at least 16 characters, such as `openssl rand -hex 16`",
  );
}

/** Open on the embedded default only where nobody but this machine can ask. */
export function developmentTokens(env: Settings, embedded: boolean): boolean {
  const asked = oneOf(env, "PULSEWIRE_DEVELOPMENT_TOKENS", ["on", "off"]);
  if (asked !== undefined) return asked === "on";
  return embedded && /^(localhost|127(\.\d{1,3}){3}|::1)$/.test(env.HOST ?? "127.0.0.1");
}

/** The mail server and the sender. */
export function mail(env: Settings): Config["mail"] {
  const smtpUrl = env.PULSEWIRE_SMTP_URL ?? env.SMTP_URL;
  if (smtpUrl === undefined) return undefined;
  const name = env.PULSEWIRE_SMTP_URL ? "PULSEWIRE_SMTP_URL" : "SMTP_URL";
  // Never repeated in a message, for it holds the password.
  if (!URL.canParse(smtpUrl) || !/^smtps?:$/.test(new URL(smtpUrl).protocol)) {
    throw new ConfigError(`${name} must look like smtp://user:password@host:587, or smtps://… for TLS`);
  }
  const from = env.PULSEWIRE_MAIL_FROM;
  if (!from?.includes("@")) {
    throw new ConfigError(
      `${name} is set, so PULSEWIRE_MAIL_FROM must be the sender's address, such as Pulsewire <pulsewire@example.org>`,
    );
  }
  return { smtpUrl, from };
}

/** Meta's Cloud API, once there is a token for it. */
export function whatsapp(env: Settings): Config["whatsapp"] {
  const token = env.WHATSAPP_API_TOKEN;
  if (token === undefined) return undefined;
  const phoneNumberId = env.PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID ?? "";
  if (!/^\d{1,40}$/.test(phoneNumberId)) {
    throw new ConfigError(
      "WHATSAPP_API_TOKEN is set, so PULSEWIRE_WHATSAPP_PHONE_NUMBER_ID must be the id, in digits, of the number that sends",
    );
  }
  const url = (env.PULSEWIRE_WHATSAPP_URL ?? "https://graph.facebook.com/v23.0").replace(/\/+$/, "");
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new ConfigError(
      `PULSEWIRE_WHATSAPP_URL is '${url}'; it must look like https://graph.facebook.com/v23.0`,
    );
  }
  const text = env.PULSEWIRE_WHATSAPP_TEMPLATE;
  if (text === undefined) return { token, url, phoneNumberId, template: undefined };
  const [, name, language] = /^([a-z0-9_]{1,512})\/([A-Za-z]{2,3}(?:_[A-Za-z]{2,4})?)$/.exec(text) ?? [];
  if (!name || !language) {
    throw new ConfigError(
      `PULSEWIRE_WHATSAPP_TEMPLATE is '${text}'; it must be a template's name and language, such as alert/en_US`,
    );
  }
  return { token, url, phoneNumberId, template: { name, language } };
}

/** E-mail addresses and tenant slugs, with commas. */
export function platformAdmins(text = ""): Set<string> {
  const entries = text.split(",").map((entry) => entry.trim().toLowerCase());
  for (const entry of entries) {
    // Anyone may get a tenant `dev-…` from the development token.
    if (entry && !/^[^\s/@]+@[^\s/@]+\/(?!dev-)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/.test(entry)) {
      throw new ConfigError(
        `PULSEWIRE_PLATFORM_ADMINS has '${entry}'; each entry must be an e-mail address, '/' and a tenant's slug, ` +
          "such as operator@example.org/operations, with commas between",
      );
    }
  }
  return new Set(entries.filter(Boolean));
}

/** Reads PULSEWIRE_KEY_ENCRYPTION_KEY: keys of 32 bytes in base64, with commas. */
export function encryptionKeys(text: string): Buffer[] {
  return text.split(",").map((part) => {
    const key = Buffer.from(part.trim(), "base64");
    if (key.length === 32) return key;
    throw new ConfigError(
      "PULSEWIRE_KEY_ENCRYPTION_KEY must be 32 bytes in base64, such as `openssl rand -base64 32`, " +
        "or several with commas",
    );
  });
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
export function logLevel(text = "info"): string {
  const level = logLevels[text.toLowerCase()];
  if (!level)
    throw new ConfigError(`LOG_LEVEL is '${text}'; it must be one of ${Object.keys(logLevels).join(", ")}`);
  return level;
}
