import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";

/** A message as Meta's Cloud API takes it. */
export interface WhatsAppMessage {
  readonly to: string;
  readonly type: "text" | "template";
  readonly text?: { readonly body: string };
  readonly template?: {
    readonly name: string;
    readonly language: { readonly code: string };
    readonly components: readonly { readonly parameters: readonly { readonly text: string }[] }[];
  };
}

export interface TestWhatsApp extends AsyncDisposable {
  /** For PULSEWIRE_WHATSAPP_URL. */
  readonly url: string;
  readonly taken: readonly WhatsAppMessage[];
  /** What the next request is answered with, with one of Meta's error codes. */
  refuseNext(status: number, code: number): void;
}

/**
 * Answers as Meta documents `POST /<version>/<phone number id>/messages`: only a request of the documented shape and with the
 * token is taken; everything else gets an error object.
 */
export async function startWhatsApp(token: string, phoneNumberId: string): Promise<TestWhatsApp> {
  const taken: WhatsAppMessage[] = [];
  const refusals: { status: number; code: number }[] = [];
  const server = createServer(async (request, response) => {
    const answer = (status: number, body: object) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    const refuse = (status: number, code: number, message: string) =>
      answer(status, { error: { message, type: "OAuthException", code, fbtrace_id: "A1b2C3" } });
    const body = (await json(request).catch(() => undefined)) as Record<string, unknown> | undefined;
    const refusal = refusals.shift();
    if (refusal) return refuse(refusal.status, refusal.code, "refused by the test");
    if (request.headers.authorization !== `Bearer ${token}`)
      return refuse(401, 190, "Invalid OAuth access token");
    if (request.method !== "POST" || request.url !== `/v23.0/${phoneNumberId}/messages`)
      return refuse(404, 100, "Unsupported post request");
    const problem = problemOf(body);
    if (problem) return refuse(400, 100, `(#100) ${problem}`);
    const message = body as unknown as WhatsAppMessage;
    taken.push(message);
    answer(200, {
      messaging_product: "whatsapp",
      contacts: [{ input: message.to, wa_id: message.to.slice(1) }],
      messages: [{ id: `wamid.${taken.length}` }],
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v23.0`,
    taken,
    refuseNext: (status, code) => refusals.push({ status, code }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** What is wrong with a body by the API's reference; undefined: nothing. */
function problemOf(body: Record<string, unknown> | undefined): string | undefined {
  if (!body) return "no JSON";
  const { messaging_product: product, recipient_type: recipient, to, type } = body;
  if (product !== "whatsapp") return "messaging_product must be 'whatsapp'";
  if (recipient !== "individual") return "recipient_type must be 'individual'";
  if (typeof to !== "string" || !/^\+?\d{7,15}$/.test(to)) return "to must be a phone number";
  if (type === "text") {
    const { body: text, preview_url: preview } = (body.text ?? {}) as Record<string, unknown>;
    if (typeof text !== "string" || text.length === 0 || text.length > 4_096) return "text.body is required";
    return typeof preview === "boolean" ? undefined : "text.preview_url must be a boolean";
  }
  if (type !== "template") return "type is not supported";
  const { name, language, components } = (body.template ?? {}) as Record<string, unknown>;
  if (typeof name !== "string") return "template.name is required";
  if (typeof (language as { code?: unknown } | undefined)?.code !== "string")
    return "language.code is required";
  const [first] = (components ?? []) as { type?: string; parameters?: { type?: string; text?: string }[] }[];
  const [parameter] = first?.parameters ?? [];
  if (first?.type !== "body" || parameter?.type !== "text" || !parameter.text)
    return "a body parameter is required";
  // 132000 and 132018 of the reference: no line breaks, tabs, or more than four spaces.
  return /[\n\t]| {5}/.test(parameter.text) ? "Param text cannot have new-line/tab characters" : undefined;
}
