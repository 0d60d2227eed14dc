import type { IncomingHttpHeaders } from "node:http";
import type { DescMethod, DescService, Message } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import type { Compression } from "@connectrpc/connect/protocol";
import { AnswerFields, RequestFields } from "./fields.ts";
import type { Format } from "./formats.ts";
import type { LeanMethod } from "./method.ts";
import { CallValues } from "./values.ts";

/** What a call is told of the request that it came with. */
export interface CallRequest {
  readonly method: LeanMethod;
  readonly format: Format;
  readonly headers: IncomingHttpHeaders;
  /** How an answer may be compressed. */
  readonly compression: Compression | undefined;
  readonly timeoutMs: number | undefined;
}

/**
 * A call on the lean path: the request that interceptors see and the context that the handler gets, in one object. What
 * few calls need, such as the signal, is made when it is asked for.
 * Whoever replaces a part of it does so with `amended`, for a copy of its own fields alone would lack the others.
 */
export abstract class Call implements HandlerContext {
  readonly format: Format;
  readonly compression: Compression | undefined;
  readonly contextValues = new CallValues();
  readonly requestMethod: string = "POST";
  /** For interceptors: whether messages come as a stream. */
  readonly stream: boolean;
  /** For interceptors: the message, or, where the method streams, the stream of the one message. */
  message: Message | AsyncIterable<Message>;
  readonly fields: IncomingHttpHeaders;
  protected readonly leanMethod: LeanMethod;
  private readonly deadlineMs: number | undefined;
  private requestFields: RequestFields | undefined;
  private answerHeader: AnswerFields | undefined;
  private answerTrailer: AnswerFields | undefined;
  private controller: AbortController | undefined;
  private deadline: NodeJS.Timeout | undefined;
  private over: { readonly reason: unknown } | undefined;

  constructor({ method, format, headers, compression, timeoutMs }: CallRequest) {
    this.leanMethod = method;
    this.format = format;
    this.fields = headers;
    this.compression = compression;
    this.stream = method.streams;
    this.message = method.nothing;
    this.deadlineMs = timeoutMs === undefined ? undefined : Date.now() + timeoutMs;
  }

  get method(): DescMethod {
    return this.leanMethod.desc;
  }
  get service(): DescService {
    return this.leanMethod.desc.parent;
  }
  get protocolName(): string {
    return this.format.protocol;
  }
  get values(): CallValues {
    return this.contextValues;
  }
  get header(): RequestFields {
    this.requestFields ??= new RequestFields(this.fields);
    return this.requestFields;
  }
  get requestHeader(): RequestFields {
    return this.header;
  }
  get responseHeader(): AnswerFields {
    this.answerHeader ??= this.beginHeader();
    return this.answerHeader;
  }
  get responseTrailer(): AnswerFields {
    this.answerTrailer ??= new AnswerFields();
    return this.answerTrailer;
  }
  get url(): string {
    const authority = this.fields[":authority"] ?? this.fields.host;
    return new URL(this.leanMethod.path, `${this.encrypted ? "https" : "http"}://${authority}`).toString();
  }

  timeoutMs(): number | undefined {
    return this.deadlineMs === undefined ? undefined : this.deadlineMs - Date.now();
  }

  /** Aborted when the deadline is over, the caller gone or the call answered. */
  get signal(): AbortSignal {
    if (this.controller) return this.controller.signal;
    const controller = new AbortController();
    this.controller = controller;
    if (this.over) controller.abort(this.over.reason);
    else {
      const leftMs = this.timeoutMs();
      if (leftMs !== undefined && leftMs <= 0) controller.abort(timedOut());
      else if (leftMs !== undefined) {
        this.deadline = setTimeout((call: Call) => call.expire(), leftMs, this);
      }
    }
    return controller.signal;
  }

  /** The deadline is over: whoever works is told so, and answers. */
  private expire(): void {
    this.controller?.abort(timedOut());
  }

  /** Tells whoever has asked for the signal; the first reason stays. */
  abort(reason?: unknown): void {
    if (this.over) return;
    this.over = { reason };
    if (this.deadline) clearTimeout(this.deadline);
    this.controller?.abort(reason);
  }

  /** Whether the request came over TLS. */
  protected abstract get encrypted(): boolean;

  private beginHeader(): AnswerFields {
    const header = new AnswerFields();
    header.begin("content-type", this.format.answerType);
    if (this.compression && this.format.enveloped) {
      header.set(this.format.encodingHeader, this.compression.name);
    }
    return header;
  }
}

function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}
