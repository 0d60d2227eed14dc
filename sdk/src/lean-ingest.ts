import { create, toBinary } from "@bufbuild/protobuf";
import { WireType } from "@bufbuild/protobuf/wire";
import { EmptySchema } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  createContextValues,
  type Interceptor,
  type Transport,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { createNodeHttpClient, type Http2SessionManager } from "@connectrpc/connect-node";
import { EventBatchService, wholeAnswer } from "./event-batches.ts";
import {
  type IngestEventsRequest,
  IngestEventsRequestSchema,
} from "./gen/pulsewire/ingestion/v1/event_pb.js";
import { checkStatus, checkTrailer } from "./grpc-status.ts";
import { fastGzip } from "./gzip.ts";

/** What a transport for gRPC is made of. */
export interface LeanOptions {
  baseUrl: string;
  sessionManager: Http2SessionManager;
  interceptors: Interceptor[];
  /** Compresses what is larger than 1 KiB. */
  sendCompression?: typeof fastGzip;
  readMaxBytes: number;
}

const method = EventBatchService.method.ingestEvents;
const prefixBytes = 5;
const compressFromBytes = 1024;

/**
 * A transport that sends batches of events by itself and leaves all else to another. Connect copies a request three
 * times and decodes the whole answer; here the pages go to the socket as they are, and the answer is left as it is.
 */
export function withLeanIngest(inner: Transport, options: LeanOptions): Transport {
  const send = createNodeHttpClient({ httpVersion: "2", sessionProvider: () => options.sessionManager });
  const url = `${options.baseUrl}/${method.parent.typeName}/${method.name}`;

  const exchange = async (request: UnaryRequest): Promise<UnaryResponse> => {
    const body = await frames(request.message as IngestEventsRequest, options.sendCompression);
    const { header, signal } = request;
    const response = await send({ url, method: "POST", header, signal, body: each(body) });
    checkStatus(response.status, response.header);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of response.body) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > options.readMaxBytes)
        throw new ConnectError("The answer is too large.", Code.ResourceExhausted);
    }
    checkTrailer(response.header.has("grpc-status") ? response.header : response.trailer);
    const message = create(EmptySchema);
    message.$unknown = [
      {
        no: wholeAnswer,
        wireType: WireType.LengthDelimited,
        data: await unframe(Buffer.concat(chunks), options.readMaxBytes),
      },
    ];
    const { service } = request;
    return {
      stream: false,
      service,
      method,
      header: response.header,
      trailer: response.trailer,
      message,
    } as UnaryResponse;
  };

  const unary: Transport["unary"] = async (called, signal, timeoutMs, header, input, contextValues) => {
    if ((called as unknown) !== method)
      return inner.unary(called, signal, timeoutMs, header, input, contextValues);
    const deadline = new AbortController();
    const timer =
      timeoutMs &&
      setTimeout(
        () => deadline.abort(new ConnectError("The call timed out.", Code.DeadlineExceeded)),
        timeoutMs,
      );
    const headers = new Headers(header);
    headers.set("content-type", "application/grpc+proto");
    headers.set("te", "trailers");
    headers.set("grpc-accept-encoding", "identity");
    if (timeoutMs) headers.set("grpc-timeout", `${Math.ceil(timeoutMs)}m`);
    if (options.sendCompression) headers.set("grpc-encoding", "gzip");
    const request = {
      stream: false,
      service: method.parent,
      method,
      requestMethod: "POST",
      url,
      header: headers,
      signal: signal ? AbortSignal.any([signal, deadline.signal]) : deadline.signal,
      contextValues: contextValues ?? createContextValues(),
      message: input,
    } as unknown as UnaryRequest;
    try {
      const call = options.interceptors.reduceRight<(request: UnaryRequest) => Promise<UnaryResponse>>(
        (next, interceptor) => interceptor(next as Parameters<Interceptor>[0]) as typeof next,
        exchange,
      );
      return (await call(request)) as never;
    } catch (error) {
      throw deadline.signal.aborted ? deadline.signal.reason : error;
    } finally {
      clearTimeout(timer);
    }
  };
  return { unary, stream: inner.stream.bind(inner) };
}

/** The request behind its prefix, in pieces: the events where they lie, then all else. */
async function frames(request: IngestEventsRequest, compression?: typeof fastGzip): Promise<Uint8Array[]> {
  const pieces: Uint8Array[] = (request.$unknown ?? []).map(
    ({ data }) =>
      // With the tag, which lies before it.
      new Uint8Array(data.buffer, data.byteOffset - 1, data.length + 1),
  );
  pieces.push(toBinary(IngestEventsRequestSchema, request, { writeUnknownFields: false }));
  const size = pieces.reduce((sum, { length }) => sum + length, 0);
  if (!compression || size < compressFromBytes) return [prefix(0, size), ...pieces];
  const compressed = await compression.compress(Buffer.concat(pieces, size));
  return [prefix(1, compressed.length), compressed];
}

function prefix(flags: number, size: number): Uint8Array {
  const bytes = Buffer.alloc(prefixBytes);
  bytes.writeUInt8(flags, 0);
  bytes.writeUInt32BE(size, 1);
  return bytes;
}

async function* each<T>(items: T[]): AsyncGenerator<T> {
  yield* items;
}

/** The one message of an answer. */
async function unframe(answer: Buffer, maxBytes: number): Promise<Uint8Array> {
  const whole = answer.length >= prefixBytes && answer.readUInt32BE(1) === answer.length - prefixBytes;
  if (!whole) throw new ConnectError("The answer is not one message.", Code.Internal);
  const message = answer.subarray(prefixBytes);
  // Nothing was offered, but the way in which a request is compressed may be taken for an offer.
  return answer[0] === 1 ? fastGzip.decompress(message, maxBytes) : message;
}
