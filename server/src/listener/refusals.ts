import type { OutgoingHttpHeaders } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Compression, UniversalHandler } from "@connectrpc/connect/protocol";
import type { HttpRequest } from "./http.ts";
import { nearest } from "./nearest.ts";
import { type ErrorForm, errorForm, type WriteErrorOptions } from "./write-error.ts";

/** A request that is answered before any handler sees it. */
export interface Refusal {
  error: ConnectError;
  options: WriteErrorOptions;
}

const rpcPath = /^\/((?:\w+\.)+\w+)\/(\w+)$/;

/** Whether a request that matches no method is meant as a call: by the shape of its path or by its content type. */
export function looksLikeRpc(path: string, contentType: string | undefined): boolean {
  return rpcPath.test(path) || errorForm(contentType) !== "http";
}

/** Refuses a call to a service or method that is not here, naming the nearest one. */
export function refuseUnknown(path: string, methods: ReadonlyMap<string, UniversalHandler>): Refusal {
  const [, service, method] = rpcPath.exec(path) ?? [];
  const services = [...new Set([...methods.values()].map((m) => m.service.typeName))];
  if (service === undefined || method === undefined) {
    return refusal(Code.Unimplemented, `no method at ${clip(path)}: paths are /package.Service/Method`, 404);
  }
  if (!services.includes(service)) {
    const hint = nearest(service, services);
    return refusal(Code.Unimplemented, `unknown service ${clip(service)}${suggest(hint)}`, 404);
  }
  const known = [...methods.values()].filter((m) => m.service.typeName === service).map((m) => m.method.name);
  const hint = nearest(method, known);
  return refusal(Code.Unimplemented, `${service} has no method ${clip(method)}${suggest(hint)}`, 404);
}

/** Refuses what the method does not take: the HTTP method, version, content type or encoding. */
export function refuseUnfit(
  req: HttpRequest,
  handler: UniversalHandler,
  compressions: readonly Compression[],
): Refusal | undefined {
  const verb = req.method ?? "";
  if (!handler.allowedMethods.includes(verb)) {
    const allow = [...handler.allowedMethods].sort().join(", ");
    return refusal(codeOfStatus, `${handler.requestPath} is called with ${allow}, not ${verb}`, 405, {
      allow,
    });
  }
  if (handler.method.methodKind === "bidi_streaming" && req.httpVersionMajor < 2) {
    const headers = { connection: "close" };
    return refusal(Code.Unimplemented, "streams in both directions need HTTP/2", 505, headers);
  }
  const type = req.headers["content-type"];
  if (verb === "POST" && !served(handler, type)) return refuseContentType(handler, type);
  const [name, acceptName] = encodingHeaders[errorForm(type)];
  const encoding = req.headers[name];
  if (typeof encoding !== "string" || encoding === "identity") return undefined;
  if (compressions.some((c) => c.name === encoding)) return undefined;
  const accepted = compressions.map((c) => c.name).join(",");
  return {
    error: new ConnectError(
      `${name} "${clip(encoding)}" is not served: use ${accepted} or none`,
      Code.Unimplemented,
    ),
    options: { headers: { [acceptName]: accepted } },
  };
}

// What all clients make of the statuses 405 and 415, so the body says the same.
const codeOfStatus = Code.Unknown;

const encodingHeaders: Record<ErrorForm, [encoding: string, accepted: string]> = {
  grpc: ["grpc-encoding", "grpc-accept-encoding"],
  "grpc-web": ["grpc-encoding", "grpc-accept-encoding"],
  "connect-stream": ["connect-content-encoding", "connect-accept-encoding"],
  http: ["content-encoding", "accept-encoding"],
};

// The text form of gRPC-Web is accepted by the matcher, but no handler serves it.
function served(handler: UniversalHandler, type: string | undefined): boolean {
  return (
    type !== undefined && handler.supportedContentType(type) && !/^application\/grpc-web-text/i.test(type)
  );
}

function refuseContentType(handler: UniversalHandler, type: string | undefined): Refusal {
  const form = handler.method.methodKind === "unary" ? "application" : "application/connect";
  const own =
    form === "application" ? ["application/json", "application/proto"] : [`${form}+json`, `${form}+proto`];
  const types = [
    ...own,
    ...["grpc", "grpc-web"].flatMap((p) => ["", "+proto", "+json"].map((c) => `application/${p}${c}`)),
  ];
  const given = type === undefined ? "no content-type" : `content-type "${clip(type)}"`;
  const streams = form === "application" ? "" : " because it streams";
  const message = `${handler.requestPath} does not take ${given}: use ${own[0]}${streams}, or one of accept-post`;
  // The charset tells this text for people from Connect's errors: the caller need not speak Connect.
  const headers = { "accept-post": types.join(", "), "content-type": "application/json; charset=utf-8" };
  return refusal(codeOfStatus, message, 415, headers, "http");
}

function refusal(
  code: Code,
  message: string,
  httpStatus: number,
  headers: OutgoingHttpHeaders = {},
  form?: ErrorForm,
): Refusal {
  return { error: new ConnectError(message, code), options: { httpStatus, headers, ...(form && { form }) } };
}

function suggest(name: string | undefined): string {
  return name === undefined ? "" : `: did you mean ${name}?`;
}

function clip(text: string): string {
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}
