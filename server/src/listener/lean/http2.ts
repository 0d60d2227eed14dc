import type { OutgoingHttpHeaders } from "node:http";
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Held, hold } from "../held.ts";
import type { CallRequest } from "./call.ts";
import type { LeanSettings } from "./path.ts";
import { UnaryCall } from "./unary-call.ts";

const callOf = Symbol("call");

/** A stream of HTTP/2 that carries a lean call. The call hangs on the stream, so that listeners are shared by all. */
type CarryingStream = ServerHttp2Stream & { [callOf]?: Http2UnaryCall };

/** What came with a stream. */
export interface Http2Head {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  readonly flags: number;
  readonly rawHeaders: string[];
}

const withTrailers = { waitForTrailers: true };

/** A unary call over HTTP/2. */
export class Http2UnaryCall extends UnaryCall {
  readonly #head: Http2Head;
  readonly #stream: CarryingStream;

  constructor(head: Http2Head, request: CallRequest, settings: LeanSettings) {
    super(request, settings);
    this.#head = head;
    this.#stream = head.stream;
    const stream = this.#stream;
    stream[callOf] = this;
    stream.on("error", ignore);
    stream.on("close", onClose);
    stream.on("end", onEnd);
    stream.on("data", onData);
  }

  protected get encrypted(): boolean {
    return this.#stream.session?.encrypted ?? false;
  }
  protected get gone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }
  protected get answering(): boolean {
    return this.#stream.headersSent;
  }
  closeAfter(): void {}

  protected cutOff(): void {
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  protected writeWhole(status: number, body: string | Uint8Array, length: number): void {
    const headers: OutgoingHttpHeaders = { ":status": status, "content-length": length };
    this.responseHeader.writeTo(headers);
    this.responseTrailer.writeTo(headers, "trailer-");
    this.#stream.respond(headers);
    this.#stream.end(body);
  }

  protected writeEnvelope(envelope: Uint8Array | undefined): void {
    const headers: OutgoingHttpHeaders = { ":status": 200 };
    this.responseHeader.writeTo(headers);
    const stream = this.#stream;
    stream.on("wantTrailers", onWantTrailers);
    stream.respond(headers, withTrailers);
    if (envelope) stream.end(envelope);
    else stream.end();
  }

  protected giveUp(held: Held): void {
    const { stream, headers, flags, rawHeaders } = this.#head;
    stream.off("close", onClose).off("end", onEnd).off("data", onData);
    if (!held.ended) stream.pause();
    hold(stream, held);
    this.settings.handOver.stream(stream, headers, flags, rawHeaders);
  }

  onData(chunk: Buffer): void {
    this.receive(chunk);
  }
  onEnd(): void {
    this.receivedAll();
  }
  onClose(): void {
    this.closed(resetError(this.#stream.rstCode));
  }
  sendTrailers(): void {
    const trailers: OutgoingHttpHeaders = {};
    this.responseTrailer.writeTo(trailers);
    this.#stream.sendTrailers(trailers);
  }
}

function onData(this: CarryingStream, chunk: Buffer): void {
  this[callOf]?.onData(chunk);
}
function onEnd(this: CarryingStream): void {
  this[callOf]?.onEnd();
}
function onClose(this: CarryingStream): void {
  this[callOf]?.onClose();
}
function onWantTrailers(this: CarryingStream): void {
  this[callOf]?.sendTrailers();
}
function ignore(): void {}

const codesOfResets = new Map<number, [name: string, code: Code]>([
  [constants.NGHTTP2_PROTOCOL_ERROR, ["PROTOCOL_ERROR", Code.Internal]],
  [constants.NGHTTP2_INTERNAL_ERROR, ["INTERNAL_ERROR", Code.Internal]],
  [constants.NGHTTP2_FLOW_CONTROL_ERROR, ["FLOW_CONTROL_ERROR", Code.Internal]],
  [constants.NGHTTP2_SETTINGS_TIMEOUT, ["SETTINGS_TIMEOUT", Code.Internal]],
  [constants.NGHTTP2_FRAME_SIZE_ERROR, ["FRAME_SIZE_ERROR", Code.Internal]],
  [constants.NGHTTP2_REFUSED_STREAM, ["REFUSED_STREAM", Code.Unavailable]],
  [constants.NGHTTP2_CANCEL, ["CANCEL", Code.Canceled]],
  [constants.NGHTTP2_COMPRESSION_ERROR, ["COMPRESSION_ERROR", Code.Internal]],
  [constants.NGHTTP2_CONNECT_ERROR, ["CONNECT_ERROR", Code.Internal]],
  [constants.NGHTTP2_ENHANCE_YOUR_CALM, ["ENHANCE_YOUR_CALM", Code.ResourceExhausted]],
  [constants.NGHTTP2_INADEQUATE_SECURITY, ["INADEQUATE_SECURITY", Code.PermissionDenied]],
  [constants.NGHTTP2_HTTP_1_1_REQUIRED, ["HTTP_1_1_REQUIRED", Code.PermissionDenied]],
]);

/** Why a stream was closed; undefined where the peer gave no reason that is an error. */
function resetError(rstCode: number | undefined): ConnectError | undefined {
  const found = rstCode === undefined ? undefined : codesOfResets.get(rstCode);
  if (!found || rstCode === undefined) return undefined;
  const [name, code] = found;
  return new ConnectError(`http/2 stream closed with error code ${name} (0x${rstCode.toString(16)})`, code);
}
