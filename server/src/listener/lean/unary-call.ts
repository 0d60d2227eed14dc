import type { Message } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { type Compression, mergeNonProtocolHeaders } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { type Answer, type AnyResponse, isPromise } from "../../rpc/interceptor.ts";
import { envelopeFlags, envelopeOf } from "./envelope.ts";
import { adopt, MessageCall, toConnectError } from "./message-call.ts";

/** A call with one answer. */
export class UnaryCall extends MessageCall {
  protected override serve(message: Message): void {
    this.settings.counts.unary++;
    this.message = message;
    let answer: Answer;
    try {
      answer = this.leanMethod.invoke(this);
    } catch (thrown) {
      this.finish(undefined, thrown);
      return;
    }
    if (!isPromise(answer)) this.finish(answer);
    else {
      answer.then(
        (res) => this.finish(res),
        (thrown: unknown) => this.finish(undefined, thrown),
      );
    }
  }

  /** Answers with what has come of the call. Never throws. */
  private finish(answer: AnyResponse | undefined, thrown?: unknown): void {
    let body: string | Uint8Array | undefined;
    let failure: ConnectError | undefined;
    try {
      if (!answer) throw thrown;
      adopt(this.responseHeader, answer.header);
      adopt(this.responseTrailer, answer.trailer);
      body = this.encode(answer.message as Message);
    } catch (error) {
      failure = toConnectError(error);
    }
    this.abort(failure);
    this.settings.running.delete(this);
    if (this.wire.gone) return;
    try {
      const compressed = this.format.enveloped
        ? this.answerEnveloped(body, failure)
        : this.answerWhole(body, failure);
      compressed?.catch((error: unknown) => this.answerFailed(error));
    } catch (error) {
      this.answerFailed(error);
    }
  }

  private answerEnveloped(
    written: string | Uint8Array | undefined,
    failure: ConnectError | undefined,
  ): Promise<void> | undefined {
    if (failure || written === undefined) {
      if (failure) setGrpcStatus(this.responseTrailer, failure, this.settings.amend);
      this.wire.begin(this.responseHeader, true);
      this.wire.end();
      return undefined;
    }
    const data = typeof written === "string" ? Buffer.from(written) : written;
    const end = (envelope: Buffer) => {
      this.responseTrailer.set("grpc-status", "0");
      this.wire.begin(this.responseHeader, true);
      this.wire.end(envelope);
    };
    if (!this.compresses(data.byteLength)) {
      end(envelopeOf(0, data));
      return undefined;
    }
    return this.compressed(data, (bytes) => end(envelopeOf(envelopeFlags.compressed, bytes)));
  }

  private compresses(length: number): boolean {
    return this.compression !== undefined && length >= this.settings.limits.compressMinBytes;
  }

  /** Compresses and goes on, unless the caller has gone meanwhile. */
  private async compressed(data: Uint8Array, goOn: (bytes: Uint8Array) => void): Promise<void> {
    const bytes = await (this.compression as Compression).compress(data);
    if (!this.wire.gone) goOn(bytes);
  }

  private answerWhole(
    answer: string | Uint8Array | undefined,
    failure: ConnectError | undefined,
  ): Promise<void> | undefined {
    const { settings, responseHeader } = this;
    let body = answer ?? "";
    let status = 200;
    if (failure) {
      status = codeToHttpStatus(failure.code);
      responseHeader.set("content-type", "application/json");
      mergeNonProtocolHeaders(responseHeader, failure.metadata);
      body = errorToJsonBytes(failure, settings.jsonOptions);
    }
    let length = typeof body === "string" ? Buffer.byteLength(body) : body.byteLength;
    const compresses = this.compresses(length);
    if (failure?.details.length === 0 && !compresses) {
      const shown = settings.amend(failure);
      status = codeToHttpStatus(shown.code);
      body = errorToJsonBytes(shown, undefined);
      length = body.byteLength;
    }
    if (!compresses) {
      this.wire.answerWhole(status, responseHeader, this.responseTrailer, body, length);
      return undefined;
    }
    return this.compressed(typeof body === "string" ? Buffer.from(body) : body, (bytes) => {
      responseHeader.set("content-encoding", (this.compression as Compression).name);
      this.wire.answerWhole(status, responseHeader, this.responseTrailer, bytes, bytes.byteLength);
    });
  }
}

/** Says in the trailers how a call has failed; see `amendErrors`. */
export function setGrpcStatus(
  trailer: Headers,
  failure: ConnectError,
  amend: (error: ConnectError) => ConnectError,
): void {
  let fields = statusFields.get(failure);
  if (!fields) {
    const status = setTrailerStatus(new Headers(), failure);
    const shown = failure.details.length === 0 ? amend(failure) : failure;
    if (shown !== failure) setTrailerStatus(status, shown);
    fields = [...status];
    statusFields.set(failure, fields);
  }
  for (const [name, value] of fields) trailer.append(name, value);
}

/** What trailers say of an error: one error may answer many calls. */
const statusFields = new WeakMap<ConnectError, readonly [name: string, value: string][]>();
