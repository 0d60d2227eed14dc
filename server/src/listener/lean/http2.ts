import type { OutgoingHttpHeaders } from "node:http";
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { type Held, hold } from "../held.ts";
import type { AnswerFields } from "./fields.ts";
import type { HandOver } from "./path.ts";
import { resetError } from "./resets.ts";
import type { Wire, WireEvents } from "./wire.ts";

const callOf = Symbol("call");

/** A stream of HTTP/2 that carries a lean call. The call hangs on the stream, so that listeners are shared by all. */
type CarryingStream = ServerHttp2Stream & { [callOf]?: WireEvents };

const trailersFollow = { waitForTrailers: true };

/** A request of HTTP/2. */
export class Http2Wire implements Wire {
  readonly #stream: CarryingStream;
  readonly #headers: IncomingHttpHeaders;
  readonly #flags: number;
  readonly #rawHeaders: string[];
  readonly #handOver: HandOver;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    flags: number,
    rawHeaders: string[],
    handOver: HandOver,
  ) {
    this.#stream = stream;
    this.#headers = headers;
    this.#flags = flags;
    this.#rawHeaders = rawHeaders;
    this.#handOver = handOver;
  }

  listen(call: WireEvents): void {
    const stream = this.#stream;
    stream[callOf] = call;
    stream.on("error", ignore);
    stream.on("close", onClose);
    stream.on("end", onEnd);
    stream.on("data", onData);
  }

  get encrypted(): boolean {
    return this.#stream.session?.encrypted ?? false;
  }
  get gone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }
  get answering(): boolean {
    return this.#stream.headersSent;
  }
  get waitingBytes(): number {
    return this.#stream.writableLength;
  }
  /** A connection of HTTP/2 is told to go away as a whole. */
  closeAfter(): void {}

  cutOff(): void {
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  answerWhole(
    status: number,
    header: AnswerFields,
    trailer: AnswerFields,
    body: string | Uint8Array,
    length: number,
  ): void {
    const fields = [":status", String(status), "content-length", String(length)];
    header.pushTo(fields);
    trailer.pushTo(fields, "trailer-");
    this.#stream.respond(fields);
    this.#stream.end(body);
  }

  begin(header: AnswerFields, withTrailers: boolean): void {
    // Node takes a list as it is, and copies an object.
    const fields = [":status", "200"];
    header.pushTo(fields);
    if (withTrailers) this.#stream.on("wantTrailers", onWantTrailers);
    this.#stream.respond(fields, withTrailers ? trailersFollow : undefined);
  }

  write(piece: Uint8Array): boolean {
    return this.#stream.write(piece);
  }
  onDrain(listener: () => void): void {
    this.#stream.once("drain", listener);
  }
  end(piece?: Uint8Array): void {
    if (piece) this.#stream.end(piece);
    else this.#stream.end();
  }

  giveUp(held: Held): void {
    const stream = this.#stream;
    stream.off("close", onClose).off("end", onEnd).off("data", onData);
    if (!held.ended) stream.pause();
    hold(stream, held);
    this.#handOver.stream(stream, this.#headers, this.#flags, this.#rawHeaders);
  }
}

function onData(this: CarryingStream, chunk: Buffer): void {
  this[callOf]?.receive(chunk);
}
function onEnd(this: CarryingStream): void {
  this[callOf]?.receivedAll();
}
function onClose(this: CarryingStream): void {
  this[callOf]?.closed(resetError(this.rstCode));
}
function onWantTrailers(this: CarryingStream): void {
  const trailers: OutgoingHttpHeaders = {};
  this[callOf]?.responseTrailer.writeTo(trailers);
  this.sendTrailers(trailers);
}
function ignore(): void {}
