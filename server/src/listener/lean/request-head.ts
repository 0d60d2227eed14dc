import type { IncomingHttpHeaders } from "node:http";

/** The head of a request of HTTP/1.1 that has come in one piece with its body. */
export interface RequestHead {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Where the body begins; it ends with the piece. */
  readonly bodyStart: number;
  /** Whether the client wants the connection closed after the answer. */
  readonly closes: boolean;
}

const lineEnd = "\r\n";
const headEnd = "\r\n\r\n";
const verb = "POST ";
const version = " HTTP/1.1";

/** Lines of printable ASCII and nothing else: no bare CR or LF, no NUL, no tab, no folded line's end. */
const plainLines = /^(?:[\x20-\x7e]+\r\n)+$/;
const plainName = /^[A-Za-z][A-Za-z0-9-]*$/;
const plainLength = /^(?:0|[1-9]\d{0,8})$/;

/** Fields that change where a message ends or what the connection is. */
const others = new Set(["transfer-encoding", "upgrade", "expect", "te", "trailer", "http2-settings"]);

/** Names as clients write them: the same few again and again. */
const names = new Map<string, string>();

/**
 * Reads one simple, whole request: a POST with `content-length`, each field once, in plain ASCII, and not a byte more or less
 * than it says. Everything that is not exactly that is undefined, for Node's parser to read: here nothing is guessed, mended or
 * refused, so that there is nothing in which the two could understand the same bytes differently.
 */
export function readRequestHead(piece: Buffer, maxBytes: number, maxFields: number): RequestHead | undefined {
  const end = piece.indexOf(headEnd, 0, "latin1");
  if (end < 0 || end > maxBytes) return undefined;
  const text = piece.toString("latin1", 0, end + lineEnd.length);
  if (!text.startsWith(verb) || !plainLines.test(text)) return undefined;
  let at = text.indexOf(lineEnd);
  const pathEnd = at - version.length;
  if (!text.startsWith(version, pathEnd)) return undefined;
  const path = text.slice(verb.length, pathEnd);

  const headers: IncomingHttpHeaders = {};
  let count = 0;
  for (at += lineEnd.length; at < text.length; ) {
    const lineStop = text.indexOf(lineEnd, at);
    const colon = text.indexOf(":", at);
    if (colon < 0 || colon > lineStop || ++count > maxFields) return undefined;
    const name = nameOf(text.slice(at, colon));
    if (name === undefined || headers[name] !== undefined) return undefined;
    headers[name] = valueIn(text, colon + 1, lineStop);
    at = lineStop + lineEnd.length;
  }

  const { connection = "keep-alive", "content-length": length } = headers;
  const bodyStart = end + headEnd.length;
  if (length === undefined || !plainLength.test(length) || piece.length !== bodyStart + Number(length))
    return undefined;
  const closes = connection === "close";
  if (!closes && connection.toLowerCase() !== "keep-alive") return undefined;
  return { path, headers, bodyStart, closes };
}

/** A name in small letters; undefined where it is not plain, or asks for what is not simple. */
function nameOf(written: string): string | undefined {
  const known = names.get(written);
  if (known !== undefined) return known;
  if (!plainName.test(written)) return undefined;
  const name = written.toLowerCase();
  // What every object has by itself is no name either.
  if (others.has(name) || name in Object.prototype) return undefined;
  if (names.size < 1_000) names.set(written, name);
  return name;
}

const space = 0x20;

function valueIn(text: string, from: number, to: number): string {
  let start = from;
  let end = to;
  while (start < end && text.charCodeAt(start) === space) start++;
  while (end > start && text.charCodeAt(end - 1) === space) end--;
  return text.slice(start, end);
}
