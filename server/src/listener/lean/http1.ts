import type { IncomingMessage, ServerResponse } from "node:http";
import type { TLSSocket } from "node:tls";
import { Code, ConnectError } from "@connectrpc/connect";
import { type Held, hold } from "../held.ts";
import type { CallRequest } from "./call.ts";
import type { LeanSettings } from "./path.ts";
import { UnaryCall } from "./unary-call.ts";

const callOf = Symbol("call");

type Carrying<T> = T & { [callOf]?: Http1UnaryCall };

/** A unary call over HTTP/1.1: Connect only, as gRPC needs trailers. */
export class Http1UnaryCall extends UnaryCall {
  readonly #req: Carrying<IncomingMessage>;
  readonly #res: Carrying<ServerResponse>;

  constructor(req: IncomingMessage, res: ServerResponse, request: CallRequest, settings: LeanSettings) {
    super(request, settings);
    this.#req = req;
    this.#res = res;
    this.#req[callOf] = this;
    this.#res[callOf] = this;
    res.on("error", ignore);
    res.on("close", onClose);
    req.on("end", onEnd);
    req.on("data", onData);
  }

  protected get encrypted(): boolean {
    return (this.#req.socket as Partial<TLSSocket>).encrypted ?? false;
  }
  protected get gone(): boolean {
    return this.#res.destroyed;
  }
  protected get answering(): boolean {
    return this.#res.headersSent;
  }
  closeAfter(): void {
    this.#res.shouldKeepAlive = false;
  }
  protected cutOff(): void {
    this.#req.socket.destroy();
  }

  protected writeWhole(status: number, body: string | Uint8Array, length: number): void {
    const fields = ["content-length", String(length)];
    this.responseHeader.pushTo(fields);
    this.responseTrailer.pushTo(fields, "trailer-");
    this.#res.writeHead(status, fields);
    this.#res.end(body);
  }

  protected writeEnvelope(): never {
    throw new Error("no unary call over HTTP/1.1 has envelopes");
  }

  protected giveUp(held: Held): void {
    const [req, res] = [this.#req, this.#res];
    res.off("close", onClose);
    req.off("end", onEnd).off("data", onData);
    if (!held.ended) req.pause();
    hold(req, held);
    this.settings.handOver.request(req, res);
  }

  onData(chunk: Buffer): void {
    this.receive(chunk);
  }
  onEnd(): void {
    this.receivedAll();
  }
  onClose(): void {
    const { errored } = this.#req;
    this.closed(errored ? new ConnectError(errored.message, Code.Aborted) : undefined);
  }
}

function onData(this: Carrying<IncomingMessage>, chunk: Buffer): void {
  this[callOf]?.onData(chunk);
}
function onEnd(this: Carrying<IncomingMessage>): void {
  this[callOf]?.onEnd();
}
function onClose(this: Carrying<ServerResponse>): void {
  this[callOf]?.onClose();
}
function ignore(): void {}
