import {
  create,
  type DescMethod,
  fromBinary,
  type JsonReadOptions,
  type JsonWriteOptions,
  type Message,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext, type MethodImplSpec } from "@connectrpc/connect";
import {
  type Answer,
  type AnyRequest,
  type AnyResponse,
  around,
  type Interceptor,
  isPromise,
  type Next,
} from "../../rpc/interceptor.ts";
import { OneMessage } from "../../rpc/one-message.ts";
import { Call } from "./call.ts";
import { jsonReader } from "./json-reader.ts";

/**
 * How messages of a unary method are read and written where the library takes too long. What is undefined is left to it,
 * and so are bytes that cannot be read.
 */
export interface Codec {
  /** In place of `fromBinary`. */
  readonly readProto?: (bytes: Uint8Array) => Message | undefined;
  /** In place of `fromJsonString`. */
  readonly readJson?: (text: string) => Message | undefined;
  /** In place of `toBinary`. */
  readonly writeProto?: (message: Message) => Uint8Array | undefined;
  /** In place of `toJsonString`. */
  readonly writeJson?: (message: Message) => string | undefined;
}

/** A method as the lean path calls it: everything that is the same in every call is made once. */
export interface LeanMethod {
  readonly desc: DescMethod;
  readonly path: string;
  readonly streams: boolean;
  /** An empty request, until there is one. */
  readonly nothing: Message;
  /** The interceptors and the handler; a promise only where one of them waits. */
  invoke(call: Call): Answer;
  readProto(bytes: Uint8Array): Message;
  readJson(text: string): Message;
  writeProto(message: Message): Uint8Array;
  writeJson(message: Message): string;
  /** What was written last to a watcher: the others get the same. */
  readonly last: Readonly<Record<"proto" | "json", LastWritten>>;
}

interface LastWritten {
  message: Message | undefined;
  envelope: Buffer | undefined;
}

export interface LeanMethodOptions {
  readonly interceptors: readonly Interceptor[];
  readonly jsonOptions: Partial<JsonReadOptions & JsonWriteOptions>;
  readonly codec?: Codec | undefined;
}

/** Prepares a unary method or one that answers with a stream; undefined: calls of this kind are not for the lean path. */
export function leanMethod(spec: MethodImplSpec, options: LeanMethodOptions): LeanMethod | undefined {
  if (spec.kind !== "unary" && spec.kind !== "server_streaming") return undefined;
  const { method: desc } = spec;
  const { input, output } = desc;
  const { jsonOptions, codec = {} } = options;
  const readJson = jsonReader(input, jsonOptions);
  const streams = spec.kind === "server_streaming";
  const invoke = around(options.interceptors, streams ? answerStream(spec) : answerOnce(spec));
  return {
    desc,
    path: `/${desc.parent.typeName}/${desc.name}`,
    streams,
    nothing: create(input),
    invoke: invoke as unknown as LeanMethod["invoke"],
    readProto: (bytes) => codec.readProto?.(bytes) ?? fromBinary(input, bytes),
    readJson: (text) => codec.readJson?.(text) ?? readJson(text),
    writeProto(message) {
      try {
        return codec.writeProto?.(message) ?? toBinary(output, message);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new ConnectError(`serialize binary: ${reason}`, Code.Internal);
      }
    },
    writeJson(message) {
      try {
        return codec.writeJson?.(message) ?? toJsonString(output, message, jsonOptions);
      } catch (error) {
        throw ConnectError.from(error, Code.Internal);
      }
    },
    last: {
      proto: { message: undefined, envelope: undefined },
      json: { message: undefined, envelope: undefined },
    },
  };
}

/** Calls the handler of a unary method. */
function answerOnce({ method, impl }: MethodImplSpec & { kind: "unary" }): Next {
  const handler = impl as (request: Message, context: HandlerContext) => unknown;
  const { output, parent: service } = method;
  const answer = (call: Call, made: Message): AnyResponse => ({
    stream: false,
    service,
    method,
    header: call.responseHeader,
    trailer: call.responseTrailer,
    message: create(output, made),
  });
  return (req) => {
    const call = callOf(req);
    const made = handler(req.message as Message, call);
    return isPromise(made)
      ? (made as Promise<Message>).then((message) => answer(call, message))
      : answer(call, made as Message);
  };
}

/** Calls the handler of a method that answers with a stream. */
function answerStream({ method, impl }: MethodImplSpec & { kind: "server_streaming" }): Next {
  const handler = impl as (request: Message, context: HandlerContext) => AsyncIterable<Message>;
  const { parent: service } = method;
  return async (req) => {
    const call = callOf(req);
    const request = req.message as AsyncIterable<Message>;
    const message = handler(request instanceof OneMessage ? request.take() : await firstOf(request), call);
    return {
      stream: true,
      service,
      method,
      header: call.responseHeader,
      trailer: call.responseTrailer,
      message,
    };
  };
}

/** The one message, where an interceptor has made a stream of it. */
async function firstOf(messages: AsyncIterable<Message>): Promise<Message> {
  for await (const message of messages) return message;
  throw new ConnectError(
    "protocol error: missing input message for server-streaming method",
    Code.Unimplemented,
  );
}

function callOf(req: AnyRequest): Call {
  if (req instanceof Call) return req;
  throw new Error("an interceptor has copied the request: use amended() to replace a part of it");
}
