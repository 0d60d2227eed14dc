import { Code, codeNames } from "../code.ts";
import { PulsewireError } from "../errors.ts";
import { readFields } from "../message-reader.ts";
import type { AnswerHeaders, HttpResponse } from "./exchange.ts";
import { type Detail, errorOf, httpError } from "./status.ts";

/** Undoes gzip. */
export type Decompress = (bytes: Uint8Array) => Promise<Uint8Array>;

/** One of the three protocols, for a unary call. */
export interface Protocol {
  /** Headers of a call with this deadline. */
  headers(timeoutMs: number): Record<string, string>;
  /** Name of the header that says that the request is compressed. */
  encodingHeader: string;
  /** The body of a request. */
  frame(message: readonly Uint8Array[], compressed: boolean): Uint8Array[];
  /** The message of an answer. @throws PulsewireError where it is an error */
  read(response: HttpResponse, decompress: Decompress | undefined): Promise<Uint8Array>;
}

const prefixBytes = 5;

function prefixed(message: readonly Uint8Array[], compressed: boolean): Uint8Array[] {
  const prefix = new Uint8Array(prefixBytes);
  prefix[0] = compressed ? 1 : 0;
  new DataView(prefix.buffer).setUint32(
    1,
    message.reduce((sum, { length }) => sum + length, 0),
  );
  return [prefix, ...message];
}

/** gRPC's header has eight digits at most: more than a day in milliseconds. */
const longestGrpcMs = 99_999_999;

const grpcTimeout = (timeoutMs: number) => `${Math.min(Math.ceil(timeoutMs), longestGrpcMs)}m`;

/** gRPC, where there are trailers. */
export const grpc: Protocol = {
  headers: (timeoutMs) => ({
    "content-type": "application/grpc+proto",
    te: "trailers",
    "grpc-accept-encoding": "identity",
    "grpc-timeout": grpcTimeout(timeoutMs),
  }),
  encodingHeader: "grpc-encoding",
  frame: prefixed,
  async read({ status, headers, trailers, body }, decompress) {
    if (status !== 200) throw httpError(status, headers);
    checkTrailers(headers.has("grpc-status") ? headers : trailers);
    const [message] = framesOf(body);
    if (!message) throw new PulsewireError({ code: Code.Internal, message: "The answer has no message." });
    return unframe(message, decompress);
  },
};

/** gRPC-Web, where the trailers stand in the body. */
export const grpcWeb: Protocol = {
  headers: (timeoutMs) => ({
    "content-type": "application/grpc-web+proto",
    "x-grpc-web": "1",
    "grpc-timeout": grpcTimeout(timeoutMs),
  }),
  encodingHeader: "grpc-encoding",
  frame: prefixed,
  async read({ status, headers, body }, decompress) {
    if (status !== 200) throw httpError(status, headers);
    if (headers.has("grpc-status")) checkTrailers(headers);
    const frames = framesOf(body);
    const last = frames.find(({ flags }) => (flags & 0x80) !== 0);
    const trailers = new Headers();
    for (const line of new TextDecoder().decode(last?.bytes).split("\r\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) trailers.append(line.slice(0, colon), line.slice(colon + 1).trim());
    }
    checkTrailers(trailers);
    const message = frames.find(({ flags }) => (flags & 0x80) === 0);
    if (!message) throw new PulsewireError({ code: Code.Internal, message: "The answer has no message." });
    return unframe(message, decompress);
  },
};

/** Connect, with Protobuf's binary format. */
export const connect: Protocol = {
  headers: (timeoutMs) => ({
    "content-type": "application/proto",
    "connect-protocol-version": "1",
    "connect-timeout-ms": String(Math.ceil(timeoutMs)),
  }),
  encodingHeader: "content-encoding",
  frame: (message) => [...message],
  async read({ status, headers, body }, decompress) {
    const type = headers.get("content-type") ?? "";
    const encoded = decompress && headers.get("content-encoding") === "gzip";
    const whole = encoded ? await decompress(body) : body;
    if (status === 200 && type.startsWith("application/proto")) return whole;
    if (type.startsWith("application/json")) throw readConnectError(status, headers, whole);
    // Such as the login page of a network's gate.
    if (status === 200)
      throw errorOf(Code.Unavailable, `The answer is "${type}", not the service's.`, [], headers);
    throw httpError(status, headers);
  },
};

interface Frame {
  flags: number;
  bytes: Uint8Array;
}

/** What stands behind prefixes. What is cut off is no frame. */
function framesOf(body: Uint8Array): Frame[] {
  const frames: Frame[] = [];
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  for (let at = 0; at + prefixBytes <= body.length; ) {
    const end = at + prefixBytes + view.getUint32(at + 1);
    if (end > body.length) break;
    frames.push({ flags: body[at] as number, bytes: body.subarray(at + prefixBytes, end) });
    at = end;
  }
  return frames;
}

/** Nothing was offered, but the way in which a request is compressed may be taken for an offer. */
async function unframe({ flags, bytes }: Frame, decompress: Decompress | undefined) {
  if ((flags & 1) === 0) return bytes;
  if (!decompress) throw new PulsewireError({ code: Code.Internal, message: "The answer is compressed." });
  return decompress(bytes);
}

/** @throws PulsewireError where they say that the call failed */
function checkTrailers(trailers: AnswerHeaders): void {
  const status = trailers.get("grpc-status");
  if (status === "0") return;
  // Without a status the answer was cut off.
  if (status === null) throw errorOf(Code.Unavailable, "The answer has no status.", [], trailers);
  const code = codeNames.has(Number(status) as Code) ? (Number(status) as Code) : Code.Unknown;
  const details: Detail[] = [];
  readFields(fromBase64(trailers.get("grpc-status-details-bin") ?? ""), (field, value) => {
    if (field === 3) details.push(readAny(value.bytes));
  });
  throw errorOf(code, decodeText(trailers.get("grpc-message") ?? ""), details, trailers);
}

function readAny(bytes: Uint8Array): Detail {
  const any: Detail = { type: "", value: new Uint8Array(0) };
  readFields(bytes, (field, value) => {
    if (field === 1) any.type = value.text.replace(/^.*\//, "");
    else if (field === 2) any.value = value.bytes;
  });
  return any;
}

/** It is percent-encoded, but not by everybody. */
function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** With or without padding. */
function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function readConnectError(status: number, headers: AnswerHeaders, body: Uint8Array): PulsewireError {
  try {
    const { code, message, details } = JSON.parse(new TextDecoder().decode(body)) as {
      code?: string;
      message?: string;
      details?: { type?: string; value?: string }[];
    };
    const known = codeNamed(code ?? "");
    if (known !== undefined) {
      const read = (details ?? []).map(({ type = "", value = "" }) => ({ type, value: fromBase64(value) }));
      return errorOf(known, message ?? "", read, headers);
    }
  } catch {
    // Somebody else's JSON.
  }
  return httpError(status, headers);
}

function codeNamed(name: string): Code | undefined {
  for (const [code, known] of codeNames) if (known.toLowerCase() === name) return code;
  return undefined;
}
