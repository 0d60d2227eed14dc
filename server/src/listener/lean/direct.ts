/**
 * Connections of HTTP/1.1 that are read here, without Node's server: as long as every request on one is simple, whole and for
 * the lean path. With the first that is not, the connection goes to Node's server with all its bytes, for good: that reads what
 * is long, chunked, pipelined, odd or malformed, and has the timers for it. A connection here is idle or has one call running.
 */
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Held } from "../held.ts";
import type { HttpHandler } from "../http.ts";
import type { ListenerLimits } from "../limits.ts";
import { standingFields, statusLine } from "./answer-head.ts";
import { chunkOf, lastChunk } from "./chunks.ts";
import type { AnswerFields } from "./fields.ts";
import type { LeanPath } from "./path.ts";
import { type RequestHead, readRequestHead } from "./request-head.ts";
import type { Wire, WireEvents } from "./wire.ts";

/** Gives a connection to Node's server, which reads `bytes` first and answers their request with `answer`, where there is one. */
export type ToNode = (socket: Socket, bytes: Buffer, answer: HttpHandler | undefined) => void;

/** The connections that are read here. */
export interface DirectConnections {
  /** Takes a new connection. */
  take(socket: Socket): void;
  /** Closes idle connections, and the others after their answers. */
  drain(): void;
  /** Ends the watch for idle connections. */
  stop(): void;
}

export interface DirectOptions {
  readonly lean: Pick<LeanPath, "takeDirect">;
  readonly limits: ListenerLimits;
  readonly toNode: ToNode;
}

/** What all connections share. */
interface Shared extends DirectOptions {
  readonly open: Set<DirectConnection>;
  /** Counts sweeps: a clock that costs nothing to read. */
  sweeps: number;
  draining: boolean;
}

/** Sweeps in the time that a connection may be idle. */
const sweepsOfIdleTime = 8;

export function createDirectConnections(options: DirectOptions): DirectConnections {
  const shared: Shared = { ...options, open: new Set(), sweeps: 0, draining: false };
  const timer = setInterval(() => {
    shared.sweeps++;
    for (const connection of shared.open) connection.closeIfIdleSince(shared.sweeps - sweepsOfIdleTime);
  }, options.limits.keepAliveTimeoutMs / sweepsOfIdleTime).unref();
  return {
    take: (socket) => void new DirectConnection(socket, shared),
    drain() {
      shared.draining = true;
      for (const connection of shared.open) connection.closeIfIdleSince(shared.sweeps);
    },
    stop: () => clearInterval(timer),
  };
}

const nothing = Buffer.alloc(0);

const connectionOf = Symbol("connection");

type Carrying = Socket & { [connectionOf]?: DirectConnection };

/** Most bytes that are kept of what comes while a call runs, before reading pauses. */
const maxAheadBytes = 65_536;

/** A request whose head is read already. */
interface KnownHead {
  readonly piece: Buffer;
  readonly head: RequestHead;
}

/** Longer requests are not kept for the sake of their heads. */
const maxKnownBytes = 4_096;

/** A connection, and the wire of the one call on it. */
class DirectConnection implements Wire {
  readonly #socket: Carrying;
  readonly #shared: Shared;
  #call: WireEvents | undefined;
  /** The request whose call runs. */
  #request: Buffer | undefined;
  /** What has come since. */
  #ahead: Buffer | undefined;
  /** The last request, whose head the next one has as a rule. */
  #last: KnownHead | undefined;
  #closes = false;
  #answering = false;
  #idleSince: number;

  constructor(socket: Carrying, shared: Shared) {
    this.#socket = socket;
    this.#shared = shared;
    this.#idleSince = shared.sweeps;
    shared.open.add(this);
    socket[connectionOf] = this;
    socket.on("data", onData);
    socket.on("close", onClose);
  }

  closeIfIdleSince(sweep: number): void {
    if (!this.#call && this.#idleSince <= sweep) this.#socket.destroySoon();
  }

  receive(piece: Buffer): void {
    if (this.#request) this.#keep(piece);
    else this.#begin(piece);
  }

  closed(): void {
    this.#shared.open.delete(this);
    const call = this.#call;
    this.#call = undefined;
    call?.closed(new ConnectError("aborted", Code.Aborted));
  }

  #begin(piece: Buffer): void {
    const head = this.#headOf(piece);
    this.#request = piece;
    this.#closes = head?.closes === true || this.#shared.draining;
    this.#answering = false;
    const call = head && this.#shared.lean.takeDirect(this, head, this.#socket);
    if (!call) {
      this.#leave(undefined);
      return;
    }
    const { bodyStart } = head;
    if (piece.length > bodyStart) call.receive(piece.subarray(bodyStart));
    // Too large, for example, and given up already.
    if (this.#call === call) call.receivedAll();
  }

  /** Clients send the same head again and again; to the byte the same is read the same. */
  #headOf(piece: Buffer): RequestHead | undefined {
    const last = this.#last;
    if (last && piece.length === last.piece.length) {
      const { bodyStart } = last.head;
      if (piece.compare(last.piece, 0, bodyStart, 0, bodyStart) === 0) return last.head;
    }
    const { limits } = this.#shared;
    const head = readRequestHead(piece, limits.maxHeaderBytes / 2, limits.maxHeaderListPairs);
    this.#last = head && piece.length <= maxKnownBytes ? { piece, head } : undefined;
    return head;
  }

  #keep(piece: Buffer): void {
    this.#ahead = this.#ahead ? Buffer.concat([this.#ahead, piece]) : piece;
    if (this.#ahead.length > maxAheadBytes) this.#socket.pause();
  }

  /** Leaves the connection to Node's server. */
  #leave(answer: HttpHandler | undefined): void {
    const socket = this.#socket;
    socket.off("data", onData);
    socket.off("close", onClose);
    delete socket[connectionOf];
    this.#shared.open.delete(this);
    this.#call = undefined;
    if (socket.destroyed) return;
    const bytes = [this.#request, this.#ahead].filter((each) => each !== undefined);
    this.#shared.toNode(socket, bytes.length === 1 ? (bytes[0] as Buffer) : Buffer.concat(bytes), answer);
  }

  /** The answer is complete. */
  #done(flushed: boolean): void {
    this.#call = undefined;
    this.#request = undefined;
    this.#idleSince = this.#shared.sweeps;
    if (this.#closes) this.#socket.destroySoon();
    else if (this.#ahead) this.#leave(undefined);
    else if (!flushed) {
      // Whoever does not take answers may not ask on.
      this.#socket.pause();
      this.#socket.once("drain", resume);
    }
  }

  listen(call: WireEvents): void {
    this.#call = call;
  }
  get encrypted(): boolean {
    return (this.#socket as Partial<TLSSocket>).encrypted ?? false;
  }
  get gone(): boolean {
    return this.#socket.destroyed || this.#socket.writableEnded;
  }
  get answering(): boolean {
    return this.#answering;
  }
  get waitingBytes(): number {
    return this.#socket.writableLength;
  }
  giveUp({ answer }: Held): void {
    this.#leave(answer);
  }
  closeAfter(): void {
    this.#closes = true;
  }
  cutOff(): void {
    this.#socket.destroy();
  }

  answerWhole(
    status: number,
    header: AnswerFields,
    trailer: AnswerFields,
    body: string | Uint8Array,
    length: number,
  ): void {
    const head = `${statusLine(status)}content-length: ${length}\r\n${header.lines()}${trailer.lines("trailer-")}${this.#standing()}\r\n`;
    this.#answering = true;
    const socket = this.#socket;
    // One write where it can be one: each is a system call.
    if (typeof body === "string" && body.length === length) this.#done(socket.write(head + body, "latin1"));
    else {
      socket.cork();
      socket.write(head, "latin1");
      const flushed = socket.write(body);
      socket.uncork();
      this.#done(flushed);
    }
  }

  begin(header: AnswerFields): void {
    const head = `${statusLine(200)}${header.lines()}${this.#standing()}Transfer-Encoding: chunked\r\n\r\n`;
    this.#answering = true;
    // It may take long, and nobody reads the request again.
    this.#request = nothing;
    this.#socket.write(head, "latin1");
  }
  write(piece: Uint8Array): boolean {
    return this.#socket.write(chunkOf(piece));
  }
  onDrain(listener: () => void): void {
    this.#socket.once("drain", listener);
  }
  end(piece?: Uint8Array): void {
    const socket = this.#socket;
    socket.cork();
    if (piece) socket.write(chunkOf(piece));
    const flushed = socket.write(lastChunk);
    socket.uncork();
    this.#done(flushed);
  }

  #standing(): string {
    return standingFields(this.#closes ? undefined : this.#shared.limits.keepAliveTimeoutMs);
  }
}

function onData(this: Carrying, piece: Buffer): void {
  this[connectionOf]?.receive(piece);
}
function onClose(this: Carrying): void {
  this[connectionOf]?.closed();
}
function resume(this: Socket): void {
  this.resume();
}
