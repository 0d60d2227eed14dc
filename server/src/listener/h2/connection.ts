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
  frameHeadBytes,
  frameType,
  largestStreamId,
  largestWindowBytes,
  maxPayloadBytes,
  settingId,
} from "./frames.ts";
import { Output } from "./output.ts";
import { Patience } from "./patience.ts";
import { areTrailers, type RequestHead } from "./request-head.ts";
import { RequestHeads } from "./request-heads.ts";
import { Http2Stream } from "./stream.ts";

/** Larger header blocks, in as many pieces as they come, end the connection. */
const maxBlockBytes = 65_536;
/** With more bytes waiting, nothing more is read. */
const pauseAtBytes = 262_144;
/** Streams that were ended here are remembered, the last so many: what their peer had sent before it heard of it is no fault. */
const maxEndedHere = 1_000;
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

/** Header fields that are being sent in several pieces. */
interface OpenBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly pieces: Buffer[];
  size: number;
}

/** A connection of HTTP/2 in cleartext (RFC 9113), the part of the server. */
export class Http2Connection {
  readonly limits: ListenerLimits;
  readonly output: Output;
  readonly bridge: Bridge;
  /** Streams that wait for room. */
  readonly blocked = new Set<Http2Stream>();
  /** The window of new streams, as the peer has set it. */
  peerStreamWindow = defaultWindowBytes;
  sendWindow = defaultWindowBytes;
  readonly #options: Http2Options;
  readonly #watch: Http2Watch;
  readonly #socket: Socket;
  readonly #peer: { readonly remoteAddress: string | undefined };
  readonly #streams = new Map<number, Http2Stream>();
  readonly #endedHere = new Set<number>();
  readonly #frames: FrameReader;
  readonly #heads: RequestHeads;
  readonly #patience: Patience;
  #settled = false;
  #block: OpenBlock | undefined;
  #lastStreamId = 0;
  /** The last stream that is served, once GOAWAY has said so. */
  #lastServedId = largestStreamId;
  #receiveWindow: number;
  #used = 0;
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
    this.#receiveWindow = limits.connectionWindowBytes;
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
    const settings = [
      [settingId.maxConcurrentStreams, limits.maxConcurrentStreams],
      [settingId.initialWindowSize, limits.streamWindowBytes],
      [settingId.maxHeaderListSize, limits.maxHeaderBytes],
    ] as const;
    const payload = Buffer.alloc(6 * settings.length);
    settings.forEach(([id, value], index) => {
      payload.writeUInt16BE(id, 6 * index);
      payload.writeUInt32BE(value, 6 * index + 2);
    });
    output.frame(frameType.settings, 0, 0, payload);
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
    this.#used += bytes;
    if (this.#used < this.limits.connectionWindowBytes / 2 || this.#over) return;
    this.output.words(frameType.windowUpdate, 0, 0, this.#used);
    this.#receiveWindow += this.#used;
    this.#used = 0;
  }

  forget(stream: Http2Stream): void {
    this.#streams.delete(stream.id);
    this.blocked.delete(stream);
    if (this.#streams.size > 0 || this.#over) return;
    if (this.#lastServedId < largestStreamId) this.#end();
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
    if (this.#over || this.#lastServedId < largestStreamId) return;
    this.#lastServedId = this.#lastStreamId;
    this.output.words(frameType.goaway, 0, 0, this.#lastServedId, errorCode.none);
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
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0)
      throw new ConnectionFault(errorCode.flowControl, "more than the window holds");
    const stream = this.#streams.get(streamId);
    if (!stream) {
      this.#mayBeLate(streamId);
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
    let from = start;
    let to = end;
    if (flags & frameFlag.padded) to -= bytes[from++] as number;
    if (flags & frameFlag.priority) from += 5;
    if (from > to) throw protocolFault("more padding than frame");
    const endStream = (flags & frameFlag.endStream) !== 0;
    if (flags & frameFlag.endHeaders) this.#onBlock(streamId, endStream, bytes.subarray(from, to));
    else
      this.#block = { streamId, endStream, pieces: [Buffer.from(bytes.subarray(from, to))], size: to - from };
  }

  #onContinuation(flags: number, piece: Buffer): void {
    const block = this.#block;
    if (!block) throw protocolFault("CONTINUATION of nothing");
    block.pieces.push(Buffer.from(piece));
    // Empty pieces are no less work.
    block.size += piece.length + frameHeadBytes;
    if (block.size > maxBlockBytes)
      throw new ConnectionFault(errorCode.enhanceYourCalm, "a header block is too large");
    if (!(flags & frameFlag.endHeaders)) return;
    this.#block = undefined;
    this.#onBlock(block.streamId, block.endStream, Buffer.concat(block.pieces));
  }

  #onBlock(streamId: number, endStream: boolean, block: Buffer): void {
    if (streamId <= this.#lastStreamId) {
      const { list } = this.#heads.readTrailers(block);
      const stream = this.#streams.get(streamId);
      if (stream) this.#onTrailers(stream, endStream, list);
      else this.#mayBeLate(streamId);
      return;
    }
    const { head, tooLarge } = this.#heads.read(block);
    if (head) {
      this.#open(streamId, endStream, head);
      return;
    }
    this.#lastStreamId = streamId;
    this.#resetId(streamId, tooLarge ? errorCode.enhanceYourCalm : errorCode.protocol);
    this.#patience.invalid();
  }

  #open(streamId: number, endStream: boolean, head: RequestHead): void {
    this.#lastStreamId = streamId;
    // What came too late to be served is the next server's.
    if (streamId > this.#lastServedId) return;
    if (this.#streams.size >= this.limits.maxConcurrentStreams) {
      this.#resetId(streamId, errorCode.refusedStream);
      return;
    }
    const stream = new Http2Stream(this, streamId, head);
    this.#streams.set(streamId, stream);
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
      if (!stream) this.#mustHaveBeen(streamId);
      else if (more === 0) this.#invalidStream(stream, errorCode.protocol);
      else if (!stream.widen(more)) this.#invalidStream(stream, errorCode.flowControl);
      return;
    }
    if (more === 0) throw protocolFault("a window update of nothing");
    this.sendWindow += more;
    if (this.sendWindow > largestWindowBytes)
      throw new ConnectionFault(errorCode.flowControl, "too wide a window");
    this.#pumpBlocked();
  }

  #onReset(streamId: number, bytes: Buffer, start: number, end: number): void {
    if (end - start !== 4) throw sizeFault();
    const stream = this.#streams.get(streamId);
    if (!stream) this.#mustHaveBeen(streamId);
    this.#patience.reset();
    stream?.close(bytes.readUInt32BE(start));
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    if (streamId !== 0) throw protocolFault("SETTINGS belong to no stream");
    if (flags & frameFlag.ack) {
      if (payload.length > 0) throw sizeFault();
      return;
    }
    if (payload.length % 6 !== 0) throw sizeFault();
    if (payload.length / 6 > this.limits.maxSettings)
      throw new ConnectionFault(errorCode.enhanceYourCalm, "too many settings");
    this.#settled = true;
    // The peer counts by its new settings from the acknowledgement on: what they let go must come behind it.
    this.#reply();
    this.output.words(frameType.settings, frameFlag.ack, 0);
    for (let at = 0; at < payload.length; at += 6)
      this.#set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  }

  #set(id: number, value: number): void {
    if (id === settingId.enablePush && value > 1) throw protocolFault("ENABLE_PUSH is 0 or 1");
    if (id === settingId.maxFrameSize && (value < maxPayloadBytes || value > 0xff_ffff))
      throw protocolFault("no such size of frames");
    if (id !== settingId.initialWindowSize) return;
    if (value > largestWindowBytes) throw new ConnectionFault(errorCode.flowControl, "too wide a window");
    const more = value - this.peerStreamWindow;
    this.peerStreamWindow = value;
    for (const stream of [...this.#streams.values()])
      if (!stream.widen(more)) throw new ConnectionFault(errorCode.flowControl, "too wide a window");
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

  /** A frame for a stream that is not there is late, unless there never was one. */
  #mustHaveBeen(streamId: number): void {
    if (streamId === 0 || streamId % 2 === 0 || streamId > this.#lastStreamId)
      throw protocolFault("a frame for a stream that never was");
  }

  /** A part of a request whose stream is over: it was under way when the stream was ended here, or it breaks the protocol. */
  #mayBeLate(streamId: number): void {
    this.#mustHaveBeen(streamId);
    if (this.#endedHere.has(streamId) || streamId > this.#lastServedId) return;
    throw new ConnectionFault(errorCode.streamClosed, "the peer had ended this stream");
  }

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
    this.#endedHere.add(streamId);
    if (this.#endedHere.size > maxEndedHere) {
      const [oldest] = this.#endedHere;
      this.#endedHere.delete(oldest as number);
    }
    this.output.words(frameType.reset, 0, streamId, code);
  }

  /** Counts what is answered to a peer that may never take it. */
  #reply(): void {
    if (!this.#patience.reply(this.output.isBehind)) this.#socket.destroy();
  }

  #pumpBlocked(): void {
    for (const stream of [...this.blocked]) {
      if (this.sendWindow <= 0 || this.output.isBehind) return;
      stream.pump();
    }
  }

  #drained(): void {
    this.#patience.drained();
    if (this.#socket.isPaused()) this.#socket.resume();
    this.#pumpBlocked();
  }

  #fail(fault: ConnectionFault): void {
    this.output.words(frameType.goaway, 0, 0, this.#lastStreamId, fault.code);
    this.#end();
    for (const stream of [...this.#streams.values()]) stream.close(fault.code);
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
    for (const stream of [...this.#streams.values()]) stream.close(errorCode.cancel);
    this.bridge.close();
    this.#watch.closed(this);
  }
}

const protocolFault = (message: string) => new ConnectionFault(errorCode.protocol, message);
const sizeFault = () => new ConnectionFault(errorCode.frameSize, "a frame has not the size of its kind");
