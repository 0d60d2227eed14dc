import { create, type Message } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { endStreamToJson } from "@connectrpc/connect/protocol-connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { OneMessage } from "../../rpc/one-message.ts";
import { PushStream, type Sink } from "../../rpc/push-stream.ts";
import { envelopeFlags, envelopeOf } from "./envelope.ts";
import { adopt, MessageCall, toConnectError } from "./message-call.ts";
import { setGrpcStatus } from "./unary-call.ts";

/**
 * A call that is answered by a stream. Where the handler pushes, messages go straight to the connection, and one that goes
 * to many watchers is encoded once; an async iterable is read as the peer takes its messages.
 */
export class StreamCall extends MessageCall implements Sink<Message> {
  private ended = false;
  private stop: (() => void) | undefined;
  private iterator: AsyncIterator<unknown> | undefined;

  protected override serve(message: Message): void {
    void this.run(message);
  }

  private async run(message: Message): Promise<void> {
    this.settings.counts.streams++;
    this.message = new OneMessage(message);
    try {
      const answer = await this.leanMethod.invoke(this);
      adopt(this.responseHeader, answer.header);
      const messages = answer.message as AsyncIterable<unknown>;
      if (messages instanceof PushStream) this.push(messages);
      else if (!this.ended) await this.pull(messages);
      adopt(this.responseTrailer, answer.trailer);
    } catch (thrown) {
      this.end(thrown);
    }
  }

  /** Whether a message can be written without falling further behind. */
  write(message: Message): boolean {
    if (this.ended) return true;
    try {
      if (this.wire.waitingBytes > this.settings.limits.maxBehindBytes) {
        this.end(tooSlow());
        return true;
      }
      return this.send(this.envelopeOf(message));
    } catch (error) {
      this.end(error);
      return true;
    }
  }

  onDrain(listener: () => void): void {
    if (!this.ended) this.wire.onDrain(listener);
  }

  end(error?: unknown): void {
    if (this.ended) return;
    this.ended = true;
    const failure = error === undefined ? undefined : toConnectError(error);
    this.release(failure);
    this.finish(failure).catch((thrown: unknown) => this.answerFailed(thrown));
  }

  override closed(reason: unknown): void {
    this.ended = true;
    super.closed(reason);
    this.release(reason);
  }

  private push(messages: PushStream<Message>): void {
    if (this.ended) return;
    const stop = messages.start(this);
    if (this.ended) {
      stop();
      return;
    }
    this.stop = stop;
    // Nobody sets headers any more, and a watcher that hears nothing for long should know that it was heard.
    this.begin();
  }

  private async pull(messages: AsyncIterable<unknown>): Promise<void> {
    const iterator = messages[Symbol.asyncIterator]();
    this.iterator = iterator;
    while (!this.ended) {
      const next = await iterator.next();
      if (this.ended) return;
      if (next.done) {
        this.iterator = undefined;
        this.end();
        return;
      }
      const envelope = await this.maybeCompressed(next.value as Message);
      if (this.ended) return;
      if (!this.send(envelope)) await this.drained();
    }
  }

  /** Waits until the peer has taken what was written, or is gone. */
  private drained(): Promise<void> {
    return new Promise((resolve) => {
      this.wire.onDrain(resolve);
      this.stop = resolve;
    });
  }

  /** Lets go of whatever makes the messages. */
  private release(reason: unknown): void {
    this.settings.running.delete(this);
    this.abort(reason);
    const { stop, iterator } = this;
    this.stop = undefined;
    this.iterator = undefined;
    stop?.();
    // What fails while it is told to end has nobody to tell.
    iterator?.return?.().catch(() => {});
  }

  private begin(): void {
    if (!this.wire.answering) this.wire.begin(this.responseHeader, this.format.protocol === "grpc");
  }

  private send(envelope: Uint8Array): boolean {
    this.begin();
    return this.wire.write(envelope);
  }

  private async finish(failure: ConnectError | undefined): Promise<void> {
    if (this.wire.gone) return;
    const trailer = this.responseTrailer;
    if (this.format.protocol === "grpc") {
      if (failure) setGrpcStatus(trailer, failure, this.settings.amend);
      else trailer.set("grpc-status", "0");
      this.begin();
      this.wire.end();
      return;
    }
    const end = endStreamToJson(trailer, failure, this.settings.jsonOptions);
    const data = Buffer.from(JSON.stringify(end));
    let envelope = envelopeOf(envelopeFlags.endStream, data);
    if (this.compression && data.byteLength >= this.settings.limits.compressMinBytes) {
      const compressed = await this.compression.compress(data);
      if (this.wire.gone) return;
      envelope = envelopeOf(envelopeFlags.endStream | envelopeFlags.compressed, compressed);
    }
    this.begin();
    this.wire.end(envelope);
  }

  private envelopeOf(message: Message): Buffer {
    const last = this.leanMethod.last[this.format.codec];
    if (last.message === message && last.envelope) return last.envelope;
    const written = this.encode(create(this.method.output, message));
    const envelope = envelopeOf(0, typeof written === "string" ? Buffer.from(written) : written);
    last.message = message;
    last.envelope = envelope;
    return envelope;
  }

  /** Messages of their own, which nobody else gets, are compressed as connect-node does it. */
  private async maybeCompressed(message: Message): Promise<Buffer> {
    const written = this.encode(create(this.method.output, message));
    const data = typeof written === "string" ? Buffer.from(written) : written;
    return this.compression && data.byteLength >= this.settings.limits.compressMinBytes
      ? envelopeOf(envelopeFlags.compressed, await this.compression.compress(data))
      : envelopeOf(0, data);
  }
}

/** For handlers that go on writing although the reader is behind. */
function tooSlow(): ConnectError {
  return new ConnectError(
    "this reader is too slow for the stream: call again with the last cursor",
    Code.ResourceExhausted,
    undefined,
    [{ desc: ErrorInfoSchema, value: { reason: "SLOW_READER", domain: "pulsewire" } }],
  );
}
