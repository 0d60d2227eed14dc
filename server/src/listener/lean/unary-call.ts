import type { Message } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { mergeNonProtocolHeaders } from "@connectrpc/connect/protocol";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { envelopeFlags, envelopeOf } from "./envelope.ts";
import { adopt, MessageCall, toConnectError } from "./message-call.ts";

/** A call with one answer. */
export class UnaryCall extends MessageCall {
  protected override async serve(message: Message): Promise<void> {
    this.settings.counts.unary++;
    this.message = message;
    let body: string | Uint8Array | undefined;
    let failure: ConnectError | undefined;
    try {
      const answer = await this.leanMethod.invoke(this);
      adopt(this.responseHeader, answer.header);
      adopt(this.responseTrailer, answer.trailer);
      body = this.encode(answer.message as Message);
    } catch (thrown) {
      failure = toConnectError(thrown);
    }
    this.abort(failure);
    this.settings.running.delete(this);
    if (this.wire.gone) return;
    try {
      if (this.format.enveloped) {
        if (failure) this.answerFailure(failure);
        else await this.answerEnveloped(body as string | Uint8Array);
      } else await this.answerWhole(body, failure);
    } catch (error) {
      this.answerFailed(error);
    }
  }

  private answerFailure(failure: ConnectError): void {
    setGrpcStatus(this.responseTrailer, failure, this.settings.amend);
    this.wire.begin(this.responseHeader, true);
    this.wire.end();
  }

  private async answerEnveloped(written: string | Uint8Array): Promise<void> {
    const data = typeof written === "string" ? Buffer.from(written) : written;
    let envelope = envelopeOf(0, data);
    if (this.compression && data.byteLength >= this.settings.limits.compressMinBytes) {
      envelope = envelopeOf(envelopeFlags.compressed, await this.compression.compress(data));
      if (this.wire.gone) return;
    }
    this.responseTrailer.set("grpc-status", "0");
    this.wire.begin(this.responseHeader, true);
    this.wire.end(envelope);
  }

  private async answerWhole(
    answer: string | Uint8Array | undefined,
    failure: ConnectError | undefined,
  ): Promise<void> {
    const { settings, compression, responseHeader } = this;
    let body = answer ?? "";
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
      if (this.wire.gone) return;
      length = body.byteLength;
      responseHeader.set("content-encoding", compression.name);
    }
    this.wire.answerWhole(status, responseHeader, this.responseTrailer, body, length);
  }
}

/** Says in the trailers how a call has failed; see `amendErrors`. */
export function setGrpcStatus(
  trailer: Headers,
  failure: ConnectError,
  amend: (error: ConnectError) => ConnectError,
): void {
  setTrailerStatus(trailer, failure);
  const shown = failure.details.length === 0 ? amend(failure) : failure;
  if (shown !== failure) setTrailerStatus(trailer, shown);
}
