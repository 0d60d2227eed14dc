/** The mail server. */
import type { Settings } from "./setting-names.ts";
import { ConfigError } from "./values.ts";

export interface MailConfig {
  readonly smtpUrl: string;
  /** The sender's address. */
  readonly from: string;
}

/** Undefined: no e-mail is sent. */
export function mailConfig(env: Settings): MailConfig | undefined {
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
