import type { Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { mergeNonProtocolHeaders } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { Held } from "../held.ts";
import type { HttpHandler } from "../http.ts";
import { writeError } from "../write-error.ts";
import { Call, type CallRequest } from "./call.ts";
import type { LeanSettings } from "./path.ts";

const envelopeBytes = 5;
const compressedFlag = 1;

/**
 * A unary call: collects the one message, runs interceptors and handler, and writes the answer. Whatever is not one whole
 * message that can be read is given to connect-node with all that has arrived, so that no error has two sources.
 */
export abstract class UnaryCall extends Call {
  readonly arrivedAt = performance.now();
  protected readonly settings: LeanSettings;
  private first: Buffer | undefined;
  private more: Buffer[] | undefined;
  private size = 0;
  /** Bytes of the envelope and the message in it; 0: not known yet. */
  private need = 0;

  constructor(request: CallRequest, settings: LeanSettings) {
    super(request);
    this.settings = settings;
    settings.running.add(this);
  }

  /** Answers with a whole body. */
  protected abstract writeWhole(status: number, body: string | Uint8Array, length: number): void;
  /** Answers with an envelope, or none, and trailers. */
  protected abstract writeEnvelope(envelope: Uint8Array | undefined): void;
  /** Leaves the request to connect-node, or to another who answers it. */
  protected abstract giveUp(held: Held): void;
  /** Whether nobody waits for the answer any more. */
  protected abstract get gone(): boolean;
  /** Whether a part of the answer is on its way. */
  protected abstract get answering(): boolean;
  /** Closes the connection after the answer, where it serves one call after the other. */
  abstract closeAfter(): void;
  protected abstract cutOff(): void;

  /** Whether the body is whole; until then it is looked at by whoever ends slow ones. */
  hasArrived = false;

  /** Gives the call to somebody who answers that it came too slowly. */
  refuse(answer: HttpHandler): void {
    this.handOver(answer);
  }

  protected receive(chunk: Buffer): void {
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

  protected receivedAll(): void {
    this.hasArrived = true;
    if (this.format.enveloped && (this.need === 0 || this.size !== this.need)) {
      this.handOver();
      return;
    }
    try {
      const bytes = this.format.enveloped ? this.join().subarray(envelopeBytes) : this.join();
      this.message =
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
    this.settings.counts.unary++;
    void this.serve();
  }

  /** The transport is closed: nothing can be answered any more. */
  protected closed(reason: unknown): void {
    this.settings.running.delete(this);
    this.abort(reason);
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
    this.giveUp({ chunks, ended: this.hasArrived, answer });
  }

  private async serve(): Promise<void> {
    let body: string | Uint8Array | undefined;
    let failure: ConnectError | undefined;
    try {
      const { header, trailer, message } = await this.leanMethod.invoke(this);
      if (header !== this.responseHeader) replace(this.responseHeader, header);
      if (trailer !== this.responseTrailer) replace(this.responseTrailer, trailer);
      body = this.encode(message as Message);
    } catch (thrown) {
      failure = toConnectError(thrown);
    }
    this.abort(failure);
    this.settings.running.delete(this);
    if (this.gone) return;
    try {
      if (this.format.enveloped) await this.answerEnveloped(body as Uint8Array, failure);
      else await this.answerWhole(body as string | Uint8Array, failure);
    } catch (error) {
      this.settings.logger.error(
        { err: error, path: this.leanMethod.path },
        "an answer could not be written",
      );
      if (this.gone) return;
      if (this.answering) this.cutOff();
      else
        this.handOver((req, res) => writeError(req, res, new ConnectError("internal error", Code.Internal)));
    }
  }

  private encode(message: Message): string | Uint8Array {
    const { codec, enveloped } = this.format;
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
    return enveloped && typeof written === "string" ? Buffer.from(written) : written;
  }

  private async answerEnveloped(data: Uint8Array | undefined, failure: ConnectError | undefined) {
    if (failure) {
      const trailer = this.responseTrailer;
      setTrailerStatus(trailer, failure);
      const shown = failure.details.length === 0 ? this.settings.amend(failure) : failure;
      if (shown !== failure) setTrailerStatus(trailer, shown);
      this.writeEnvelope(undefined);
      return;
    }
    const message = data as Uint8Array;
    const compressed =
      this.compression && message.byteLength >= this.settings.limits.compressMinBytes
        ? await this.compression.compress(message)
        : undefined;
    if (this.gone) return;
    this.responseTrailer.set("grpc-status", "0");
    this.writeEnvelope(envelope(compressed ? compressedFlag : 0, compressed ?? message));
  }

  private async answerWhole(answer: string | Uint8Array, failure: ConnectError | undefined) {
    const { settings, compression, responseHeader } = this;
    let body = answer;
    let status = 200;
    if (failure) {
      status = codeToHttpStatus(failure.code);
      responseHeader.set("content-type", "application/json");
      mergeNonProtocolHeaders(responseHeader, failure.metadata);
      body = errorToJsonBytes(failure, settings.jsonOptions);
    }
    let length = typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
    const compresses = compression !== undefined && length >= settings.limits.compressMinBytes;
    if (failure?.details.length === 0 && !compresses) {
      const shown = settings.amend(failure);
      status = codeToHttpStatus(shown.code);
      body = errorToJsonBytes(shown, undefined);
      length = body.byteLength;
    }
    if (compresses) {
      body = await compression.compress(typeof body === "string" ? Buffer.from(body) : body);
      if (this.gone) return;
      length = body.byteLength;
      responseHeader.set("content-encoding", compression.name);
    }
    this.writeWhole(status, body, length);
  }
}

const nothing = Buffer.alloc(0);

/** As a TextDecoder does it: without a byte order mark. */
function textOf(bytes: Buffer): string {
  const text = bytes.toString();
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

function envelope(flags: number, data: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(envelopeBytes + data.byteLength);
  bytes[0] = flags;
  bytes.writeUInt32BE(data.byteLength, 1);
  bytes.set(data, envelopeBytes);
  return bytes;
}

export function toConnectError(thrown: unknown): ConnectError {
  return thrown instanceof ConnectError
    ? thrown
    : new ConnectError("internal error", Code.Internal, undefined, undefined, thrown);
}

function replace(target: Headers, source: Headers): void {
  for (const name of [...target.keys()]) target.delete(name);
  source.forEach((value, name) => {
    target.set(name, value);
  });
}
