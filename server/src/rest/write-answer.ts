/** Writes one answer of REST: JSON, compressed where the client can read it and it pays. */
import { hash } from "node:crypto";
import { promisify } from "node:util";
import { brotliCompress, constants, gzip } from "node:zlib";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import { AnswerFields } from "../listener/lean/fields.ts";
import type { RestAnswer } from "./dialect.ts";

const compressMinBytes = 1_024;
const encoders = {
  br: (bytes: Buffer) =>
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 4 } }),
  gzip: promisify(gzip),
};

/** Sends an answer. HEAD gets the headers alone; a GET whose `if-none-match` names the answer gets 304. */
export async function writeAnswer(
  req: HttpRequest,
  res: HttpResponse,
  answer: RestAnswer & { readonly contentType?: string },
  header: Headers = new Headers(),
): Promise<void> {
  const headers: Record<string, string> = { ...fieldsOf(header), ...answer.headers };
  if (answer.body === undefined) {
    if (answer.status !== 204) headers["content-length"] = "0";
    end(res, answer.status, headers);
    return;
  }
  let body: Buffer | string = JSON.stringify(answer.body);
  let length = Buffer.byteLength(body);
  headers["content-type"] = answer.contentType ?? "application/json";
  headers.vary = headers.vary ? `${headers.vary}, accept-encoding` : "accept-encoding";
  const reading = req.method === "GET" || req.method === "HEAD";
  if (reading && answer.status === 200) {
    headers.etag ??= `W/"${hash("sha256", body, "base64url").slice(0, 22)}"`;
    headers["cache-control"] ??= "private, no-cache";
    if (matches(req.headers["if-none-match"], headers.etag)) {
      delete headers["content-type"];
      end(res, 304, headers);
      return;
    }
  }
  const encoding = length >= compressMinBytes ? chooseEncoding(req.headers["accept-encoding"]) : undefined;
  if (encoding) {
    body = await encoders[encoding](Buffer.from(body));
    length = body.length;
    headers["content-encoding"] = encoding;
  }
  headers["content-length"] = String(length);
  end(res, answer.status, headers, req.method === "HEAD" ? undefined : body);
}

/** The fields of a call's answer, without the `Headers` that few of them ever become. */
function fieldsOf(header: Headers): Record<string, string> {
  if (!(header instanceof AnswerFields)) return Object.fromEntries(header);
  const fields: Record<string, string> = {};
  header.writeTo(fields);
  return fields;
}

/** A text goes out in one piece with its head. */
function end(
  res: HttpResponse,
  status: number,
  headers: Record<string, string>,
  body?: Buffer | string,
): void {
  if (res.destroyed || res.headersSent) return;
  res.writeHead(status, headers);
  res.end(body ?? "");
}

function matches(given: string | undefined, etag: string): boolean {
  if (given === undefined) return false;
  const bare = (text: string) => text.trim().replace(/^W\//, "");
  return given.trim() === "*" || given.split(",").some((each) => bare(each) === bare(etag));
}

/** The coding that the client can read and we like best (RFC 9110, 12.5.3). */
export function chooseEncoding(accept: string | string[] | undefined): "br" | "gzip" | undefined {
  const wanted = new Map(
    String(accept ?? "")
      .split(",")
      .map((part) => {
        const [name = "", ...parameters] = part.trim().toLowerCase().split(";");
        const quality = parameters.map((each) => /^\s*q=([\d.]+)/.exec(each)?.[1]).find(Boolean);
        return [name.trim(), Number(quality ?? 1)] as const;
      }),
  );
  const readable = (name: string) => (wanted.get(name) ?? wanted.get("*") ?? 0) > 0;
  if (readable("br")) return "br";
  return readable("gzip") ? "gzip" : undefined;
}
