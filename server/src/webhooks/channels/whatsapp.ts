/** A WhatsApp message by Meta's Cloud API: POST <url>/<phone number id>/messages. */
import type { WhatsAppConfig } from "../../config/webhooks.ts";
import type { Answer, Poster } from "../../net/post.ts";
import { readRetryAfter } from "../schedule.ts";
import { type Deliver, excerpt, type Outcome } from "./outcome.ts";
import { type Words, wordsOf } from "./text.ts";

export interface WhatsAppOptions {
  readonly settings: WhatsAppConfig | undefined;
  /** May reach private addresses: the operator has named this one. */
  readonly poster: Poster;
  readonly timeoutMs: number;
  readonly now: () => number;
}

/** The most characters of a text message, and of a template's parameter as far as Meta takes it in a body of 1,024. */
const maxText = 4_096;
const maxParameter = 900;

export function createWhatsAppChannel({ settings, poster, timeoutMs, now }: WhatsAppOptions): Deliver {
  return async ({ destination, payload }, signal) => {
    if (!settings) return notConfigured;
    const { url, phoneNumberId, token } = settings;
    const body = JSON.stringify({
      messaging_product: "whatsapp",
      recipient_type: "individual",
      to: destination,
      ...content(settings, wordsOf(payload)),
    });
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    try {
      const answer = await poster.post(`${url}/${phoneNumberId}/messages`, {
        headers,
        body,
        timeoutMs,
        signal,
      });
      return outcomeOf(answer, now());
    } catch (error) {
      signal.throwIfAborted();
      return { accepted: false, status: 0, body: "", error: (error as Error).message };
    }
  };
}

function content({ template }: WhatsAppConfig, { subject, text }: Words): object {
  if (!template) return { type: "text", text: { preview_url: false, body: text.slice(0, maxText) } };
  // A parameter may hold no line breaks and no runs of spaces.
  const words = `${subject} — ${text}`.replace(/\s+/g, " ").trim().slice(0, maxParameter);
  return {
    type: "template",
    template: {
      name: template.name,
      language: { code: template.language },
      components: [{ type: "body", parameters: [{ type: "text", text: words }] }],
    },
  };
}

/** Meta's codes for what passes: its own trouble and limits of throughput. */
const passing = new Set([1, 2, 4, 80007, 130429, 131000, 131016, 131048, 131056, 133004, 133016]);

function outcomeOf({ status, headers, body }: Answer, nowMs: number): Outcome {
  const answer = { status, body: excerpt(body) };
  const { messages, error } = read(body);
  // Accepted is only what was given an id.
  if (status >= 200 && status < 300 && messages?.[0]?.id) return { ...answer, accepted: true, error: "" };
  const said = error?.message ? `: ${error.message}` : "";
  const isRefused = status === 400 || status === 404;
  return {
    ...answer,
    accepted: false,
    error: `WhatsApp answered ${status}${said}`,
    permanent: isRefused && error?.code !== undefined && !passing.has(error.code),
    retryAfterMs: readRetryAfter(headers["retry-after"], nowMs),
  };
}

interface CloudAnswer {
  readonly messages?: readonly { readonly id?: string }[];
  readonly error?: { readonly message?: string; readonly code?: number };
}

function read(body: Buffer): CloudAnswer {
  try {
    const parsed: unknown = JSON.parse(body.toString());
    return typeof parsed === "object" && parsed !== null ? parsed : {};
  } catch {
    // Whatever answered was not the API; the status says enough.
    return {};
  }
}

const notConfigured = {
  accepted: false,
  status: 0,
  body: "",
  error: "the operator of this server has not set up WhatsApp (WHATSAPP_API_TOKEN)",
};
