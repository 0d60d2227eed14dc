import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Held, hold } from "../held.ts";
import { chunkOf } from "./chunks.ts";
import type { AnswerFields } from "./fields.ts";
import type { HandOver } from "./path.ts";
import type { Wire, WireEvents } from "./wire.ts";

const callOf = Symbol("call");

type Carrying<T> = T & { [callOf]?: WireEvents };

/** A request of HTTP/1.1. It has no trailers: gRPC is not spoken here. */
export class Http1Wire implements Wire {
  readonly #req: Carrying<IncomingMessage>;
  readonly #res: Carrying<ServerResponse>;
  readonly #handOver: HandOver;
  #closing = false;

  constructor(req: IncomingMessage, res: ServerResponse, handOver: HandOver) {
    this.#req = req;
    this.#res = res;
    this.#handOver = handOver;
  }

  listen(call: WireEvents): void {
    const [req, res] = [this.#req, this.#res];
    req[callOf] = call;
    res[callOf] = call;
    res.on("error", ignore);
    res.on("close", onClose);
    req.on("end", onEnd);
    req.on("data", onData);
  }

  get encrypted(): boolean {
    return (this.#req.socket as Partial<TLSSocket>).encrypted ?? false;
  }
  get gone(): boolean {
    return this.#res.destroyed;
  }
  get answering(): boolean {
    return this.#res.headersSent;
  }
  get waitingBytes(): number {
    return this.#res.socket?.writableLength ?? this.#res.writableLength;
  }
  closeAfter(): void {
    this.#res.shouldKeepAlive = false;
    this.#closing = true;
  }
  cutOff(): void {
    this.#req.socket.destroy();
  }

  answerWhole(
    status: number,
    header: AnswerFields,
    trailer: AnswerFields,
    body: string | Uint8Array,
    length: number,
  ): void {
    const fields = ["content-length", String(length)];
    header.pushTo(fields);
    trailer.pushTo(fields, "trailer-");
    this.#res.writeHead(status, fields);
    this.#res.end(body);
  }

  begin(header: AnswerFields): void {
    const fields: string[] = [];
    header.pushTo(fields);
    this.#res.writeHead(200, fields);
    this.#res.flushHeaders();
  }

  /**
   * Pieces go to the socket itself, once it is this answer's turn, so that their frames are made once, too.
   */
  write(piece: Uint8Array): boolean {
    const { socket } = this.#res;
    return socket ? socket.write(chunkOf(piece)) : this.#res.write(piece);
  }
  onDrain(listener: () => void): void {
    (this.#res.socket ?? this.#res).once("drain", listener);
  }
  end(piece?: Uint8Array): void {
    if (this.#closing) this.#res.once("finish", () => this.#req.socket.destroySoon());
    if (piece) this.#res.end(piece);
    else this.#res.end();
  }

  giveUp(held: Held): void {
    const [req, res] = [this.#req, this.#res];
    res.off("close", onClose);
    req.off("end", onEnd).off("data", onData);
    if (!held.ended) req.pause();
    hold(req, held);
    this.#handOver.request(req, res);
  }
}

function onData(this: Carrying<IncomingMessage>, chunk: Buffer): void {
  this[callOf]?.receive(chunk);
}
function onEnd(this: Carrying<IncomingMessage>): void {
  this[callOf]?.receivedAll();
}
function onClose(this: Carrying<ServerResponse>): void {
  const { errored } = this.req;
  this[callOf]?.closed(errored ? new ConnectError(errored.message, Code.Aborted) : undefined);
}
function ignore(): void {}
