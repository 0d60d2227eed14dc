import type { Socket } from "node:net";
import type { LeanPath } from "../lean/path.ts";
import type { ListenerLimits } from "../limits.ts";
import { Bridge, type Landing } from "./bridge.ts";
import { FrameReader } from "./frame-reader.ts";
import {
  ConnectionFault,
  defaultWindowBytes,
  errorCode,
  frameFlag,
  frameType,
  largestStreamId,
  largestWindowBytes,
  protocolFault,
  sizeFault,
} from "./frames.ts";
import { fieldsOf, OpenBlock } from "./open-block.ts";
import { Output } from "./output.ts";
import { Patience } from "./patience.ts";
import { ReceiveWindow } from "./receive-window.ts";
import { areTrailers, type RequestHead } from "./request-head.ts";
import { RequestHeads } from "./request-heads.ts";
import { SendRoom } from "./send-room.ts";
import { ourSettings, readSettings } from "./settings.ts";
import { Http2Stream } from "./stream.ts";
import { StreamIds } from "./stream-ids.ts";
import { StreamTable } from "./stream-table.ts";

/** With more bytes waiting, nothing more is read. */
const pauseAtBytes = 262_144;
/** After a connection has said its last, the peer has so long to close it. */
const lingerMs = 2_000;

export interface Http2Options {
  readonly lean: Pick<LeanPath, "takeHttp2">;
  readonly limits: ListenerLimits;
  /** Where bridges lead. */
  readonly land: (pipe: Parameters<Landing>[0], remoteAddress: string | undefined) => void;
}

/** What a connection tells those that follow it. */
export interface Http2Watch {
  /** The last stream is over. */
  idle(connection: Http2Connection): void;
  closed(connection: Http2Connection): void;
}

/** A connection of HTTP/2 in cleartext (RFC 9113), the part of the server. */
export class Http2Connection {
  readonly limits: ListenerLimits;
  readonly output: Output;
  readonly bridge: Bridge;
  readonly room: SendRoom;
  readonly #options: Http2Options;
  readonly #watch: Http2Watch;
  readonly #socket: Socket;
  readonly #peer: { readonly remoteAddress: string | undefined };
  readonly #streams = new StreamTable();
  readonly #ids = new StreamIds();
  readonly #frames: FrameReader;
  readonly #heads: RequestHeads;
  readonly #patience: Patience;
  readonly #window: ReceiveWindow;
  #settled = false;
  #block: OpenBlock | undefined;
  #onPong: (() => void) | undefined;
  #over = false;

  constructor(socket: Socket, options: Http2Options, watch: Http2Watch) {
    const { limits } = options;
    this.limits = limits;
    this.#options = options;
    this.#watch = watch;
    this.#socket = socket;
    this.#peer = { remoteAddress: socket.remoteAddress };
    this.output = new Output(socket);
    this.room = new SendRoom(this.output);
    this.bridge = new Bridge((pipe) => options.land(pipe, this.#peer.remoteAddress));
    this.#frames = new FrameReader((type, flags, streamId, bytes, start, end) => {
      this.#frame(type, flags, streamId, bytes, start, end);
      return !this.#over;
    });
    this.#heads = new RequestHeads({
      maxBytes: limits.maxHeaderBytes,
      maxFields: limits.maxHeaderListPairs,
    });
    this.#patience = new Patience(limits);
    this.#window = new ReceiveWindow(limits.connectionWindowBytes);
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("drain", () => this.#drained());
    socket.on("close", () => this.#closed());
    socket.on("end", () => socket.destroySoon());
    this.#greet();
  }

  get streams(): number {
    return this.#streams.size;
  }

  #greet(): void {
    const { limits, output } = this;
    output.frame(frameType.settings, 0, 0, ourSettings(limits));
    const more = limits.connectionWindowBytes - defaultWindowBytes;
    if (more > 0) output.words(frameType.windowUpdate, 0, 0, more);
  }

  // What streams ask for.

  /** Ends a stream before its time. */
  reset(stream: Http2Stream, code: number): void {
    this.#resetId(stream.id, code);
    stream.close(code);
  }

  /** Bytes that were read and are used up. */
  giveBack(bytes: number): void {
    if (this.#over) return;
    const more = this.#window.giveBack(bytes);
    if (more > 0) this.output.words(frameType.windowUpdate, 0, 0, more);
  }

  forget(stream: Http2Stream): void {
    this.#streams.delete(stream);
    this.room.waiting.delete(stream);
    if (this.#streams.size > 0 || this.#over) return;
    if (this.#ids.isClosed) this.#end();
    else this.#watch.idle(this);
  }

  // What those ask for who follow connections.

  /**
   * RFC 9113, 6.8: first a notice that refuses nothing, then, after one round trip, the GOAWAY that names the last stream
   * served. A call that was under way to us meanwhile gets an answer instead of a torn stream.
   */
  sayGoodbye(roundTripMs: number): void {
    if (this.#over || this.#onPong) return;
    this.output.words(frameType.goaway, 0, 0, largestStreamId, errorCode.none);
    this.output.words(frameType.ping, 0, 0, 0, 0);
    const timer = setTimeout(() => this.goAway(), roundTripMs);
    this.#onPong = () => {
      clearTimeout(timer);
      this.goAway();
    };
  }

  /** Takes no further streams, and closes when those there are over. */
  goAway(): void {
    if (this.#over || this.#ids.isClosed) return;
    this.#ids.close();
    this.output.words(frameType.goaway, 0, 0, this.#ids.last, errorCode.none);
    if (this.#streams.size === 0) this.#end();
  }

  // What comes.

  #receive(chunk: Buffer): void {
    if (this.#over) return;
    try {
      this.#frames.read(chunk);
    } catch (error) {
      if (error instanceof ConnectionFault) this.#fail(error);
      else throw error;
    }
    if (this.output.waitingBytes > pauseAtBytes) this.#socket.pause();
  }

  #frame(type: number, flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (this.#block && (type !== frameType.continuation || streamId !== this.#block.streamId))
      throw protocolFault("something stands between the pieces of a header block");
    if (!this.#settled && (type !== frameType.settings || flags & frameFlag.ack))
      throw protocolFault("the first frame must be SETTINGS");
    switch (type) {
      case frameType.data:
        this.#onData(flags, streamId, bytes, start, end);
        return;
      case frameType.headers:
        this.#onHeaders(flags, streamId, bytes, start, end);
        return;
      case frameType.continuation:
        this.#onContinuation(flags, bytes.subarray(start, end));
        return;
      case frameType.windowUpdate:
        this.#onWindowUpdate(streamId, bytes, start, end);
        return;
      case frameType.reset:
        this.#onReset(streamId, bytes, start, end);
        return;
      case frameType.settings:
        this.#onSettings(flags, streamId, bytes.subarray(start, end));
        return;
      case frameType.ping:
        this.#onPing(flags, streamId, bytes.subarray(start, end));
        return;
      case frameType.priority:
        if (streamId === 0) throw protocolFault("PRIORITY belongs to a stream");
        if (end - start !== 5) throw sizeFault();
        return;
      case frameType.pushPromise:
        throw protocolFault("clients do not push");
      case frameType.goaway:
        if (streamId !== 0) throw protocolFault("GOAWAY belongs to no stream");
        if (end - start < 8) throw sizeFault();
        return;
      default:
    }
  }

  #onData(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    const length = end - start;
    if (!this.#window.take(length))
      throw new ConnectionFault(errorCode.flowControl, "more than the window holds");
    const stream = this.#streams.get(streamId);
    if (!stream) {
      this.#ids.mayBeLate(streamId);
      this.giveBack(length);
      return;
    }
    const padding = flags & frameFlag.padded ? (bytes[start] as number) + 1 : 0;
    if (padding > length) throw protocolFault("more padding than frame");
    const from = padding > 0 ? start + 1 : start;
    if (stream.remoteEnded) {
      this.giveBack(length);
      this.#invalidStream(stream, errorCode.streamClosed);
      return;
    }
    if (!stream.receive(bytes.subarray(from, from + length - padding), length)) {
      this.#invalidStream(stream, errorCode.flowControl);
      return;
    }
    if (stream.isTooLong || (flags & frameFlag.endStream && !stream.receivedAll())) this.#wrongLength(stream);
  }

  #onHeaders(flags: number, streamId: number, bytes: Buffer, start: number, end: number): void {
    if (streamId % 2 === 0) throw protocolFault("requests have odd numbers");
    const endStream = (flags & frameFlag.endStream) !== 0;
    const fields = fieldsOf(flags, bytes, start, end);
    if (flags & frameFlag.endHeaders) this.#onBlock(streamId, endStream, fields);
    else this.#block = new OpenBlock(streamId, endStream, fields);
  }

  #onContinuation(flags: number, piece: Buffer): void {
    const block = this.#block;
    if (!block) throw protocolFault("CONTINUATION of nothing");
    block.add(piece);
    if (!(flags & frameFlag.endHeaders)) return;
    this.#block = undefined;
    this.#onBlock(block.streamId, block.endStream, block.whole());
  }

  #onBlock(streamId: number, endStream: boolean, block: Buffer): void {
    if (streamId <= this.#ids.last) {
      const { list } = this.#heads.readTrailers(block);
      const stream = this.#streams.get(streamId);
      if (stream) this.#onTrailers(stream, endStream, list);
      else this.#ids.mayBeLate(streamId);
      return;
    }
    const { head, tooLarge } = this.#heads.read(block);
    if (head) {
      this.#open(streamId, endStream, head);
      return;
    }
    this.#ids.open(streamId);
    this.#resetId(streamId, tooLarge ? errorCode.enhanceYourCalm : errorCode.protocol);
    this.#patience.invalid();
  }

  #open(streamId: number, endStream: boolean, head: RequestHead): void {
    // What came too late to be served is the next server's.
    if (!this.#ids.open(streamId)) return;
    if (this.#streams.size >= this.limits.maxConcurrentStreams) {
      this.#resetId(streamId, errorCode.refusedStream);
      return;
    }
    const stream = new Http2Stream(this, streamId, head);
    this.#streams.add(stream);
    if (!this.#options.lean.takeHttp2(stream, head.headers, this.#peer)) stream.bridge();
    if (endStream && !stream.receivedAll()) this.#wrongLength(stream);
  }

  #onTrailers(stream: Http2Stream, endStream: boolean, list: readonly string[]): void {
    if (stream.remoteEnded) this.#invalidStream(stream, errorCode.streamClosed);
    else if (!endStream || !areTrailers(list) || !stream.receivedAll())
      this.#invalidStream(stream, errorCode.protocol);
  }

  #onWindowUpdate(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 4) throw sizeFault();
    const more = bytes.readUInt32BE(start) & largestWindowBytes;
    const stream = this.#streams.get(streamId);
    if (streamId > 0) {
      if (!stream) this.#ids.mustHaveBeen(streamId);
      else if (more === 0) this.#invalidStream(stream, errorCode.protocol);
      else if (!stream.widen(more)) this.#invalidStream(stream, errorCode.flowControl);
      return;
    }
    if (more === 0) throw protocolFault("a window update of nothing");
    this.room.widen(more);
  }

  #onReset(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 4) throw sizeFault();
    const stream = this.#streams.get(streamId);
    if (!stream) this.#ids.mustHaveBeen(streamId);
    this.#patience.reset();
    stream?.close(bytes.readUInt32BE(start));
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault("SETTINGS belong to no stream");
    if (flags & frameFlag.ack) {
      if (payload.length > 0) throw sizeFault();
      return;
    }
    const windows = readSettings(payload, this.limits.maxSettings);
    this.#settled = true;
    // The peer counts by its new settings from the acknowledgement on: what they let go must come behind it.
    this.#reply();
    this.output.words(frameType.settings, frameFlag.ack, 0);
    for (const bytes of windows) this.room.resize(bytes, this.#streams.all());
  }

  #onPing(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault("PING belongs to no stream");
    if (payload.length !== 8) throw sizeFault();
    if (flags & frameFlag.ack) {
      this.#onPong?.();
      return;
    }
    this.#reply();
    this.output.frame(frameType.ping, frameFlag.ack, 0, payload);
  }

  // Helpers.

  /** The body has not the length that was announced: as good as a reset by the peer, and counted as one. */
  #wrongLength(stream: Http2Stream): void {
    this.reset(stream, errorCode.protocol);
    this.#patience.reset();
  }

  #invalidStream(stream: Http2Stream, code: number): void {
    this.reset(stream, code);
    this.#patience.invalid();
  }

  #resetId(streamId: number, code: number): void {
    this.#reply();
    this.#ids.endHere(streamId);
    this.output.words(frameType.reset, 0, streamId, code);
  }

  /** Counts what is answered to a peer that may never take it. */
  #reply(): void {
    if (!this.#patience.reply(this.output.isBehind)) this.#socket.destroy();
  }

  #drained(): void {
    this.#patience.drained();
    if (this.#socket.isPaused()) this.#socket.resume();
    this.room.goOn();
  }

  #fail(fault: ConnectionFault): void {
    this.output.words(frameType.goaway, 0, 0, this.#ids.last, fault.code);
    this.#end();
    for (const stream of this.#streams.all()) stream.close(fault.code);
  }

  /** Says no more, and waits for the peer to close. */
  #end(): void {
    this.#over = true;
    this.output.flush();
    this.#socket.end();
    // What still comes is not read, but that it ends is.
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.destroy(), lingerMs).unref();
    this.#socket.once("close", () => clearTimeout(timer));
  }

  #closed(): void {
    this.#over = true;
    for (const stream of this.#streams.all()) stream.close(errorCode.cancel);
    this.bridge.close();
    this.#watch.closed(this);
  }
}
