/** An e-mail through the operator's mail server. The durable queue is the deliveries' own, so nothing is retried here. */
import type { MailTransport } from "../../mail/mailer.ts";
import { type Deliver, excerpt } from "./outcome.ts";
import { wordsOf } from "./text.ts";

export function createEmailChannel(transport: MailTransport | undefined): Deliver {
  return async ({ destination, messageId, payload }) => {
    if (!transport) return notConfigured;
    try {
      const { code, text } = await transport.deliver({ to: destination, messageId, ...wordsOf(payload) });
      return { accepted: true, status: code, body: excerpt(text), error: "" };
    } catch (error) {
      const { responseCode = 0, response = "", message } = error as SmtpError;
      return {
        accepted: false,
        status: responseCode,
        body: excerpt(response),
        error: responseCode
          ? `the mail server answered ${responseCode}`
          : `no answer of the mail server: ${message}`,
        permanent: isPermanent(error as SmtpError),
      };
    }
  };
}

type SmtpError = Error & {
  readonly responseCode?: number;
  readonly response?: string;
  readonly command?: string;
};

/** A refusal of this message or its receiver for good (RFC 5321, 4.2.1); that of a sign-in is the operator's to mend. */
function isPermanent({ responseCode = 0, command = "" }: SmtpError): boolean {
  return responseCode >= 500 && /^(RCPT TO|DATA)/.test(command);
}

const notConfigured = {
  accepted: false,
  status: 0,
  body: "",
  error: "the operator of this server has not set up a mail server (PULSEWIRE_SMTP_URL)",
};
