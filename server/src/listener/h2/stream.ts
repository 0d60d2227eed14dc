import type { OutgoingHttpHeaders } from "node:http";
import type { Held } from "../held.ts";
import { httpDate } from "../lean/answer-head.ts";
import type { AnswerFields } from "../lean/fields.ts";
import { resetError } from "../lean/resets.ts";
import type { Wire, WireEvents } from "../lean/wire.ts";
import type { Bridged } from "./bridge.ts";
import type { Http2Connection } from "./connection.ts";
import { errorCode, frameFlag, frameType, largestWindowBytes, maxPayloadBytes } from "./frames.ts";
import { ReceiveWindow } from "./receive-window.ts";
import type { RequestHead } from "./request-head.ts";

/** Beyond this, who writes is told to wait; as in Node. */
const highWaterBytes = 16_384;

/** A request and its answer: the wire of a lean call, or one end of the bridge to Node's server. */
export class Http2Stream implements Wire {
  readonly id: number;
  readonly head: RequestHead;
  /** Another stream of the same slot; see `StreamTable`. */
  nextInSlot: Http2Stream | undefined = undefined;
  readonly #connection: Http2Connection;
  #call: WireEvents | undefined;
  #bridged: Bridged | undefined;
  /** Bytes of the body so far. */
  #received = 0;
  readonly #window: ReceiveWindow;
  /** What we may still send; negative after the peer has made it smaller. */
  #sendWindow: number;
  #remoteEnded = false;
  #localEnded = false;
  /** Whether nobody reads the rest of the body. */
  #unwanted = false;
  #closed = false;
  #headersSent = false;
  #withTrailers = false;
  /** Whether nothing will be added to `queue`. */
  #ending = false;
  #trailers: readonly string[] | undefined;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #waiting: (() => void)[] = [];

  constructor(connection: Http2Connection, id: number, head: RequestHead) {
    this.#connection = connection;
    this.id = id;
    this.head = head;
    this.#window = new ReceiveWindow(connection.limits.streamWindowBytes);
    this.#sendWindow = connection.room.streamBytes;
  }

  // What the connection tells.

  /** Gives the request to Node's server. */
  bridge(held?: Held): void {
    this.#call = undefined;
    this.#bridged = this.#connection.bridge.open(this, held);
    if (held?.ended || this.#remoteEnded) this.#bridged.end();
  }

  /** A piece of the body, of `length` bytes with its padding. False: the peer sends more than it may. */
  receive(piece: Buffer, length: number): boolean {
    this.#received += piece.length;
    if (!this.#window.take(length)) return false;
    if (piece.length === 0) this.#giveBack(length);
    else if (this.#bridged) this.#bridged.write(piece, () => this.#giveBack(length));
    else {
      this.#call?.receive(piece);
      this.#giveBack(length);
    }
    return true;
  }

  get remoteEnded(): boolean {
    return this.#remoteEnded;
  }

  /** The body is whole. False: it has not the length that was announced. */
  receivedAll(): boolean {
    const { contentLength } = this.head;
    if (contentLength >= 0 && contentLength !== this.#received) return false;
    this.#remoteEnded = true;
    if (this.#bridged) this.#bridged.end();
    else this.#call?.receivedAll();
    this.#closeIfOver();
    return true;
  }

  /** Whether the body is longer than was announced already. */
  get isTooLong(): boolean {
    const { contentLength } = this.head;
    return contentLength >= 0 && this.#received > contentLength;
  }

  /** The peer lets us send more, or less. False: more than can be. */
  widen(bytes: number): boolean {
    this.#sendWindow += bytes;
    if (this.#sendWindow > largestWindowBytes) return false;
    this.pump();
    return true;
  }

  /** The stream is over; nothing is sent any more. */
  close(code: number): void {
    if (this.#closed) return;
    const isOver = this.#remoteEnded && this.#localEnded;
    this.#closed = true;
    this.#queue = [];
    this.#queued = 0;
    this.#connection.forget(this);
    const call = this.#call;
    const bridged = this.#bridged;
    this.#call = undefined;
    this.#bridged = undefined;
    call?.closed(resetError(code));
    if (!isOver) bridged?.close(code);
    this.#caughtUp();
  }

  #giveBack(bytes: number): void {
    this.#connection.giveBack(bytes);
    if (this.#remoteEnded || this.#closed) return;
    const more = this.#window.giveBack(bytes);
    if (more > 0) this.#connection.output.words(frameType.windowUpdate, 0, this.id, more);
  }

  #closeIfOver(): void {
    if (!this.#localEnded) return;
    if (this.#remoteEnded) this.close(errorCode.none);
    else if (this.#unwanted) this.#connection.reset(this, errorCode.none);
  }

  // The wire of a call.

  listen(call: WireEvents): void {
    this.#call = call;
  }
  get encrypted(): boolean {
    return false;
  }
  get gone(): boolean {
    return this.#closed;
  }
  get answering(): boolean {
    return this.#headersSent;
  }
  get waitingBytes(): number {
    return this.#queued;
  }
  /** A connection of HTTP/2 is told to go away as a whole. */
  closeAfter(): void {}

  cutOff(): void {
    this.#connection.reset(this, errorCode.internal);
  }

  giveUp(held: Held): void {
    this.bridge(held);
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
    fields.push("date", httpDate());
    this.respond(fields, false);
    this.end(typeof body === "string" ? Buffer.from(body) : body);
  }

  begin(header: AnswerFields, withTrailers: boolean): void {
    const fields = [":status", "200"];
    header.pushTo(fields);
    fields.push("date", httpDate());
    this.#withTrailers = withTrailers;
    this.respond(fields, false);
  }

  write(piece: Uint8Array): boolean {
    if (this.#closed) return true;
    if (piece.length > 0) {
      this.#queue.push(piece);
      this.#queued += piece.length;
      this.pump();
    }
    return this.#queued < highWaterBytes;
  }

  /** Calls `listener` once, when the peer has caught up; at once where it has. */
  onDrain(listener: () => void): void {
    this.#waiting.push(listener);
  }

  end(piece?: Uint8Array): void {
    if (this.#closed) return;
    if (this.#withTrailers && this.#call) {
      const trailers: string[] = [];
      this.#call.responseTrailer.pushTo(trailers);
      this.#trailers = trailers;
    }
    this.#ending = true;
    if (piece && piece.length > 0) {
      this.#queue.push(piece);
      this.#queued += piece.length;
    }
    this.pump();
  }

  // For the bridge as well.

  /** Sends the head of the answer, or one before it. */
  respond(fields: readonly string[], isAll: boolean): void {
    if (this.#closed) return;
    this.#connection.output.headers(this.id, fields, isAll);
    this.#headersSent = true;
    if (!isAll) return;
    this.#localEnded = true;
    this.#closeIfOver();
  }

  endWith(trailers: readonly string[] | undefined): void {
    this.#trailers = trailers;
    this.end();
  }

  /** The other side of the bridge has said all, and does not want the rest of the body. */
  endedAcross(): void {
    this.#bridged = undefined;
    this.#unwanted = true;
    if (this.#localEnded && !this.#closed) this.#connection.reset(this, errorCode.none);
  }

  /** The other side of the bridge has ended it. */
  abandon(code: number): void {
    this.#bridged = undefined;
    if (!this.#closed) this.#connection.reset(this, code);
  }

  /** Sends what the windows allow. */
  pump(): void {
    if (this.#closed || this.#localEnded) return;
    const connection = this.#connection;
    const { output, room } = connection;
    while (this.#queued > 0) {
      const most = Math.min(maxPayloadBytes, this.#sendWindow, room.bytes);
      if (most <= 0 || output.isBehind) {
        room.waiting.add(this);
        return;
      }
      this.#sendData(most);
    }
    room.waiting.delete(this);
    if (this.#ending) this.#finish();
    else this.#caughtUp();
  }

  #sendData(most: number): void {
    const piece = this.#queue[0] as Uint8Array;
    const part = piece.length <= most ? piece : piece.subarray(0, most);
    if (part === piece) this.#queue.shift();
    else this.#queue[0] = piece.subarray(most);
    this.#queued -= part.length;
    this.#sendWindow -= part.length;
    this.#connection.room.bytes -= part.length;
    const isLast = this.#queued === 0 && this.#ending && !this.#trailers;
    this.#connection.output.frame(frameType.data, isLast ? frameFlag.endStream : 0, this.id, part);
    if (isLast) this.#localEnded = true;
  }

  #finish(): void {
    const { output } = this.#connection;
    if (this.#trailers) output.headers(this.id, this.#trailers, true);
    else if (!this.#localEnded) output.frame(frameType.data, frameFlag.endStream, this.id, nothing);
    this.#localEnded = true;
    this.#closeIfOver();
  }

  #caughtUp(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const listener of waiting) process.nextTick(listener);
  }
}

const nothing = Buffer.alloc(0);

/** Fields as Node gives them, as names and values in turn. */
export function fieldList(headers: OutgoingHttpHeaders): string[] {
  return Object.entries(headers).flatMap(([name, value]) =>
    (Array.isArray(value) ? value : [value]).flatMap((each) =>
      each === undefined ? [] : [name, String(each)],
    ),
  );
}
