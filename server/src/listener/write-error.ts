import type { OutgoingHttpHeaders } from "node:http";
import type { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import {
  codeToHttpStatus,
  contentTypeStreamRegExp,
  endStreamFlag,
  endStreamToJson,
  errorToJsonBytes,
} from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import type { HttpRequest, HttpResponse } from "./http.ts";

/** The way a caller expects errors to be told. */
export type ErrorForm = "grpc" | "grpc-web" | "connect-stream" | "http";

/** Finds out from the content type how a caller expects errors to be told; plain HTTP if nothing says otherwise. */
export function errorForm(contentType: string | undefined): ErrorForm {
  if (contentType === undefined) return "http";
  if (/^application\/grpc-web\b/i.test(contentType)) return "grpc-web";
  if (/^application\/grpc\b/i.test(contentType)) return "grpc";
  return contentTypeStreamRegExp.test(contentType) ? "connect-stream" : "http";
}

/** What {@link writeError} may be told besides the error. */
export interface WriteErrorOptions {
  /** Replaces the form that follows from the content type. */
  form?: ErrorForm;
  /** Replaces the HTTP status that follows from the code, where the caller's protocol uses one. */
  httpStatus?: number;
  /** Further response headers; they win over those that follow from the form. */
  headers?: OutgoingHttpHeaders;
}

/**
 * Answers a request with an error in the caller's protocol: trailers only for gRPC, a trailer frame for gRPC-Web, an
 * end-of-stream message for Connect streams, and a status with Connect's JSON error for everything else. The error's
 * metadata becomes headers or trailers. The request body need not have been read.
 */
export function writeError(
  req: HttpRequest,
  res: HttpResponse,
  error: ConnectError,
  options: WriteErrorOptions = {},
): void {
  const contentType = req.headers["content-type"];
  const form = options.form ?? errorForm(contentType);
  const headers: OutgoingHttpHeaders = {};
  let status = 200;
  let body: Uint8Array | undefined;
  switch (form) {
    case "grpc":
      headers["content-type"] = contentType;
      Object.assign(headers, Object.fromEntries(setTrailerStatus(new Headers(), error)));
      break;
    case "grpc-web":
      headers["content-type"] = contentType;
      body = encodeEnvelope(trailerFlag, trailerSerialize(setTrailerStatus(new Headers(), error)));
      break;
    case "connect-stream": {
      headers["content-type"] = contentType;
      const end = JSON.stringify(endStreamToJson(new Headers(), error, undefined));
      body = encodeEnvelope(endStreamFlag, new TextEncoder().encode(end));
      break;
    }
    case "http":
      status = options.httpStatus ?? codeToHttpStatus(error.code);
      Object.assign(headers, Object.fromEntries(error.metadata), { "content-type": "application/json" });
      body = errorToJsonBytes(error, undefined);
  }
  Object.assign(headers, options.headers);
  if (body !== undefined) headers["content-length"] = body.byteLength;
  res.writeHead(status, headers);
  if (body !== undefined && req.method !== "HEAD") res.write(body);
  res.end();
}
