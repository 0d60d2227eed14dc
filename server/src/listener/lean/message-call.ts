import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { HttpHandler } from "../http.ts";
import { writeError } from "../write-error.ts";
import { Call, type CallRequest } from "./call.ts";
import { envelopeBytes } from "./envelope.ts";
import type { LeanSettings, RunningCall } from "./path.ts";
import type { Wire, WireEvents } from "./wire.ts";

/**
 * A call with one message: collects it and begins with it. Whatever is not one whole message that can be read is given to
 * connect-node with all that has arrived, so that no error has two sources.
 */
export abstract class MessageCall extends Call implements WireEvents, RunningCall {
  readonly arrivedAt = performance.now();
  /** Whether the body is whole; until then it is looked at by whoever ends slow ones. */
  hasArrived = false;
  isListed = false;
  earlier: RunningCall | undefined = undefined;
  later: RunningCall | undefined = undefined;
  protected readonly settings: LeanSettings;
  protected readonly wire: Wire;
  private first: Buffer | undefined;
  private more: Buffer[] | undefined;
  private size = 0;
  /** Bytes of the envelope and the message in it; 0: not known yet. */
  private need = 0;

  constructor(wire: Wire, request: CallRequest, settings: LeanSettings) {
    super(request);
    this.wire = wire;
    this.settings = settings;
    settings.running.add(this);
    wire.listen(this);
  }

  /** Runs interceptors and handler, and answers. Never throws. */
  protected abstract serve(message: Message): void;

  protected get encrypted(): boolean {
    return this.wire.encrypted;
  }

  closeAfter(): void {
    this.wire.closeAfter();
  }

  /** Gives the call to somebody who answers that it came too slowly. */
  refuse(answer: HttpHandler): void {
    this.handOver(answer);
  }

  receive(chunk: Buffer): void {
    this.size += chunk.length;
    if (!this.first) this.first = chunk;
    else if (this.more) this.more.push(chunk);
    else this.more = [chunk];
    const { readMaxBytes } = this.settings.limits;
    if (!this.format.enveloped) {
      if (this.size > readMaxBytes) this.handOver();
      return;
    }
    if (this.need === 0 && this.size >= envelopeBytes) {
      const head = this.first.length >= envelopeBytes ? this.first : this.join();
      const length = head.readUInt32BE(1);
      this.need = envelopeBytes + length;
      if (head[0] !== 0 || length > readMaxBytes) {
        this.handOver();
        return;
      }
    }
    if (this.need > 0 && this.size > this.need) this.handOver();
  }

  receivedAll(): void {
    this.hasArrived = true;
    if (this.format.enveloped && (this.need === 0 || this.size !== this.need)) {
      this.handOver();
      return;
    }
    let message: Message;
    try {
      const bytes = this.format.enveloped ? this.join().subarray(envelopeBytes) : this.join();
      message =
        this.format.codec === "proto"
          ? this.leanMethod.readProto(bytes)
          : this.leanMethod.readJson(textOf(bytes));
    } catch {
      // connect-node reads it again and says what is wrong.
      this.handOver();
      return;
    }
    this.first = undefined;
    this.more = undefined;
    this.serve(message);
  }

  closed(reason: unknown): void {
    this.settings.running.delete(this);
    this.abort(reason);
  }

  /** Writes a message as the caller reads it. */
  protected encode(message: Message): string | Uint8Array {
    const { codec } = this.format;
    const written =
      codec === "proto" ? this.leanMethod.writeProto(message) : this.leanMethod.writeJson(message);
    const { writeMaxBytes } = this.settings.limits;
    // A string has at most three bytes a unit; only long ones are measured.
    const length =
      typeof written !== "string"
        ? written.byteLength
        : written.length * 3 > writeMaxBytes
          ? Buffer.byteLength(written)
          : 0;
    if (length > writeMaxBytes) {
      throw new ConnectError(
        `message size ${length} is larger than configured writeMaxBytes ${writeMaxBytes}`,
        Code.ResourceExhausted,
      );
    }
    return written;
  }

  /** For what should never happen: header fields that cannot be written, for example. */
  protected answerFailed(error: unknown): void {
    if (this.wire.gone) return;
    this.settings.logger.error({ err: error, path: this.leanMethod.path }, "an answer could not be written");
    if (this.wire.answering) this.wire.cutOff();
    else this.handOver((req, res) => writeError(req, res, new ConnectError("internal error", Code.Internal)));
  }

  private join(): Buffer {
    if (this.more) {
      this.first = Buffer.concat([this.first as Buffer, ...this.more], this.size);
      this.more = undefined;
    }
    return this.first ?? nothing;
  }

  private handOver(answer?: HttpHandler): void {
    this.settings.running.delete(this);
    this.settings.counts.handedOver++;
    const chunks = this.first ? [this.first, ...(this.more ?? [])] : [];
    this.wire.giveUp({ chunks, ended: this.hasArrived, answer });
  }
}

const nothing = Buffer.alloc(0);

/** As a TextDecoder does it: without a byte order mark. */
function textOf(bytes: Buffer): string {
  const text = bytes.toString();
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

/** Errors of others tell the caller nothing. */
export function toConnectError(thrown: unknown): ConnectError {
  return thrown instanceof ConnectError
    ? thrown
    : new ConnectError("internal error", Code.Internal, undefined, undefined, thrown);
}

/** Takes over fields that an interceptor has replaced. */
export function adopt(own: Headers, given: Headers): void {
  if (own === given) return;
  for (const name of [...own.keys()]) own.delete(name);
  given.forEach((value, name) => {
    own.set(name, value);
  });
}
