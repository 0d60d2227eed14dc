import type { ConnectError } from "@connectrpc/connect";
import { ConnectError as CallError } from "@connectrpc/connect";
import { encodeEnvelope, type UniversalServerResponse } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorFromJsonBytes, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError, setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerParse, trailerSerialize } from "@connectrpc/connect/protocol-grpc-web";
import { errorForm } from "./write-error.ts";

/** Makes of an error without details the one that the caller should see. */
export type AmendError = (error: ConnectError) => ConnectError;

/**
 * connect-node answers by itself, outside of all interceptors, when it cannot read a request or write an answer. These
 * errors, the only ones without details, are amended on their way out.
 */
export async function amendErrors(
  response: UniversalServerResponse,
  contentType: string | undefined,
  amend: AmendError,
): Promise<UniversalServerResponse> {
  const { body, trailer } = response;
  if (body === undefined) return response;
  switch (errorForm(contentType)) {
    case "http":
      return response.status < 400 || response.header?.has("content-encoding")
        ? response
        : await amendUnary(response, await readAll(body), amend);
    case "grpc":
      return trailer ? { ...response, body: thenAmendTrailer(body, trailer, amend) } : response;
    case "grpc-web":
      return { ...response, body: amendTrailerFrame(body, amend) };
    default:
      return response;
  }
}

async function amendUnary(response: UniversalServerResponse, body: Uint8Array, amend: AmendError) {
  const error = errorFromJsonBytes(body, response.header, new CallError("unreadable error"));
  if (error.details.length > 0) return { ...response, body: once(body) };
  const amended = amend(error);
  const bytes = errorToJsonBytes(amended, undefined);
  response.header?.set("content-length", String(bytes.byteLength));
  return { ...response, status: codeToHttpStatus(amended.code), body: once(bytes) };
}

async function* thenAmendTrailer(body: AsyncIterable<Uint8Array>, trailer: Headers, amend: AmendError) {
  yield* body;
  const error = findTrailerError(trailer);
  if (error?.details.length === 0) setTrailerStatus(trailer, amend(error));
}

async function* amendTrailerFrame(body: AsyncIterable<Uint8Array>, amend: AmendError) {
  for await (const frame of body) {
    const trailer = frame[0] === trailerFlag ? trailerParse(frame.subarray(5)) : undefined;
    const error = trailer && findTrailerError(trailer);
    if (trailer && error?.details.length === 0) {
      setTrailerStatus(trailer, amend(error));
      yield encodeEnvelope(trailerFlag, trailerSerialize(trailer));
    } else {
      yield frame;
    }
  }
}

async function* once(bytes: Uint8Array) {
  yield bytes;
}

async function readAll(body: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  return Buffer.concat(await Array.fromAsync(body));
}
