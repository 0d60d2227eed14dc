import { createTransport } from "nodemailer";
import type { MailTransport } from "./mailer.ts";

/** Time-outs of one delivery, milliseconds. */
const timeouts = {
  dnsTimeout: 5_000,
  connectionTimeout: 5_000,
  greetingTimeout: 5_000,
  socketTimeout: 10_000,
};

/**
 * Delivers through an SMTP server: `smtp://user:password@host:587` (STARTTLS where the server offers it, required with
 * `?requireTLS=true`) or `smtps://host:465`.
 */
export function createSmtpTransport({
  smtpUrl: url,
  from,
}: {
  smtpUrl: string;
  from: string;
}): MailTransport {
  const transport = createTransport({ url, ...timeouts });
  const host = /@([^\s>]+)/.exec(from)?.[1] ?? "localhost";
  return {
    async deliver({ to, subject, text, messageId }) {
      const { response } = await transport.sendMail({
        from,
        to,
        subject,
        text,
        ...(messageId && { messageId: `<${messageId}@${host}>` }),
        // Nothing of a message may be read as a file or fetched.
        disableFileAccess: true,
        disableUrlAccess: true,
      });
      return { code: Number.parseInt(response, 10) || 0, text: response };
    },
    close: () => transport.close(),
  };
}
