import {
  create,
  type DescMethod,
  fromBinary,
  fromJsonString,
  type JsonReadOptions,
  type JsonWriteOptions,
  type Message,
  toBinary,
  toJsonString,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type HandlerContext,
  type Interceptor,
  type MethodImplSpec,
  type StreamRequest,
  type StreamResponse,
  type UnaryRequest,
  type UnaryResponse,
} from "@connectrpc/connect";
import { Call } from "./call.ts";

/** Reads requests of a method straight from their bytes. What it throws leaves the bytes to the usual way. */
export type Decoder = (bytes: Uint8Array) => Message;
/** Writes answers of a method; undefined leaves the message to the usual way. */
export type Encoder = (message: Message) => Uint8Array | undefined;

export type AnyRequest = UnaryRequest | StreamRequest;
export type AnyResponse = UnaryResponse | StreamResponse;

/** A method as the lean path calls it: everything that is the same in every call is made once. */
export interface LeanMethod {
  readonly desc: DescMethod;
  readonly path: string;
  readonly streams: boolean;
  /** An empty request, until there is one. */
  readonly nothing: Message;
  /** The interceptors and the handler. */
  invoke(call: Call): Promise<AnyResponse>;
  readProto(bytes: Uint8Array): Message;
  readJson(text: string): Message;
  writeProto(message: Message): Uint8Array;
  writeJson(message: Message): string;
}

export interface LeanMethodOptions {
  readonly interceptors: readonly Interceptor[];
  readonly jsonOptions: Partial<JsonReadOptions & JsonWriteOptions>;
  readonly decoder?: Decoder | undefined;
  readonly encoder?: Encoder | undefined;
}

/** Prepares a unary method. */
export function leanMethod(spec: MethodImplSpec, options: LeanMethodOptions): LeanMethod | undefined {
  if (spec.kind !== "unary") return undefined;
  const { method: desc } = spec;
  const { input, output } = desc;
  const { jsonOptions, decoder, encoder } = options;
  const impl = spec.impl as (request: Message, context: HandlerContext) => unknown;
  const answer = async (req: AnyRequest): Promise<AnyResponse> => {
    const call = callOf(req);
    const made = impl(req.message as Message, call);
    const message = create(output, (isPromise(made) ? await made : made) as Message);
    return {
      stream: false,
      service: desc.parent,
      method: desc,
      header: call.responseHeader,
      trailer: call.responseTrailer,
      message,
    };
  };
  let invoke = answer;
  for (const interceptor of options.interceptors.toReversed()) invoke = interceptor(invoke);
  return {
    desc,
    path: `/${desc.parent.typeName}/${desc.name}`,
    streams: false,
    nothing: create(input),
    invoke: invoke as unknown as LeanMethod["invoke"],
    readProto: decoder ?? ((bytes) => fromBinary(input, bytes)),
    readJson: (text) => fromJsonString(input, text, jsonOptions),
    writeProto(message) {
      try {
        return encoder?.(message) ?? toBinary(output, message);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        throw new ConnectError(`serialize binary: ${reason}`, Code.Internal);
      }
    },
    writeJson(message) {
      try {
        return toJsonString(output, message, jsonOptions);
      } catch (error) {
        throw ConnectError.from(error, Code.Internal);
      }
    },
  };
}

function callOf(req: AnyRequest): Call {
  if (req instanceof Call) return req;
  throw new Error("an interceptor has copied the request: use amended() to replace a part of it");
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined)?.then === "function";
}
