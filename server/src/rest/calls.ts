/** Calls of the service from REST: the same interceptors and handlers as over any wire, in the listener's lean form. */
import type {
  DescMessage,
  DescMethod,
  DescMethodUnary,
  DescService,
  Message,
  MessageInitShape,
  MessageShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextKey,
  createServiceImplSpec,
  type HandlerContext,
  type MethodImplSpec,
  type ServiceImpl,
} from "@connectrpc/connect";
import type { HttpRequest } from "../listener/http.ts";
import { Call } from "../listener/lean/call.ts";
import { unaryFormats } from "../listener/lean/formats.ts";
import { type LeanMethod, leanMethod } from "../listener/lean/method.ts";
import type { Peer } from "../listener/lean/path.ts";
import type { CallValues } from "../listener/lean/values.ts";
import { peerOfRequest } from "../listener/peers.ts";
import type { Interceptor } from "../rpc/interceptor.ts";
import { OneMessage } from "../rpc/one-message.ts";

type AnyMessage = MessageShape<DescMessage>;

/** The answer of a unary call. */
export interface CallAnswer {
  readonly message: AnyMessage;
  readonly header: Headers;
}

/** The answer of a server-streaming call. */
export interface StreamAnswer {
  readonly messages: AsyncIterable<AnyMessage>;
  readonly header: Headers;
}

export interface Calls {
  /** Begins a call of a method for a request. `abort` is to be called when it is over or the client has gone. */
  begin(method: DescMethod, req: HttpRequest): RestCall;
  /**
   * A way to begin calls of a unary method that another handler answers, for requests that the method's message cannot hold:
   * who may call, how often, and what is logged is the same.
   */
  answeredBy(method: DescMethodUnary, handler: Handler): (req: HttpRequest) => RestCall;
  unary(call: RestCall, request: AnyMessage): Promise<CallAnswer>;
  stream(call: RestCall, request: AnyMessage): Promise<StreamAnswer>;
  /**
   * Rejects a call whose request could not be read with `error`, but only after the caller was found to be allowed to make it:
   * whoever is not learns that, and nothing else.
   */
  reject(call: RestCall, error: unknown): Promise<never>;
}

/** Answers calls of a unary method. */
export type Handler = (
  request: AnyMessage,
  context: HandlerContext,
) => Promise<MessageInitShape<DescMessage>> | MessageInitShape<DescMessage>;

/** A place where services are registered, as the routers of the wires are. */
export interface CallRegistry extends Calls {
  service<S extends DescService>(service: S, implementation: Partial<ServiceImpl<S>>): this;
}

/** A call over REST. */
export class RestCall extends Call {
  readonly #req: HttpRequest;
  override readonly requestMethod: string;

  constructor(method: LeanMethod, req: HttpRequest) {
    const format = unaryFormats.get("application/json");
    if (!format) throw new Error("there is no JSON");
    super({ method, format, headers: req.headers, compression: undefined, timeoutMs: undefined });
    this.#req = req;
    this.requestMethod = req.method ?? "";
  }

  override get protocolName(): string {
    return "rest";
  }
  override get url(): string {
    const authority = this.fields[":authority"] ?? this.fields.host ?? "localhost";
    return new URL(this.#req.url ?? "/", `${this.encrypted ? "https" : "http"}://${authority}`).toString();
  }
  protected get encrypted(): boolean {
    return "encrypted" in this.#req.socket;
  }
  /** The method with its interceptors. */
  get prepared(): LeanMethod {
    return this.leanMethod;
  }
}

/** The error of a request that could not be read. */
const unreadableKey = createContextKey<unknown>(undefined, { description: "why the request cannot be read" });

export interface CallsOptions {
  readonly interceptors: readonly Interceptor[];
  /** Fills the values of a call in. */
  readonly prepare: (values: CallValues, peer: Peer) => void;
}

/** Calls without any wire. */
export function createCalls({ interceptors, prepare }: CallsOptions): CallRegistry {
  const methods = new Map<DescMethod, LeanMethod>();
  const rejecting = new Map<DescMethod, LeanMethod>();
  const prepared = (spec: MethodImplSpec) => leanMethod(spec, { interceptors, jsonOptions: {} });

  const withHandler = (method: DescMethodUnary, impl: Handler): LeanMethod =>
    prepared({ kind: "unary", method, impl: impl as never }) as LeanMethod;

  const begin = (method: LeanMethod, req: HttpRequest): RestCall => {
    const call = new RestCall(method, req);
    prepare(call.values, peerOfRequest(req));
    return call;
  };

  /** The method with a handler that only throws: what stands before it decides whether the caller hears why. */
  function rejectingMethod(method: DescMethod): LeanMethod {
    let found = rejecting.get(method);
    if (!found) {
      found = withHandler(method as DescMethodUnary, (_, context) => {
        throw context.values.get(unreadableKey);
      });
      rejecting.set(method, found);
    }
    return found;
  }

  return {
    service(service, implementation) {
      const specs = createServiceImplSpec(service, implementation as ServiceImpl<typeof service>);
      for (const spec of Object.values(specs.methods)) {
        const method = prepared(spec);
        if (method) methods.set(spec.method, method);
      }
      return this;
    },
    begin(method, req) {
      const found = methods.get(method);
      if (!found) throw new Error(`${method.parent.typeName}.${method.name} is not registered`);
      return begin(found, req);
    },
    answeredBy(method, handler) {
      const answered = withHandler(method, handler);
      return (req) => begin(answered, req);
    },
    async unary(call, request) {
      call.message = request;
      const { message, header } = await call.prepared.invoke(call);
      return { message: message as Message, header };
    },
    async stream(call, request) {
      call.message = new OneMessage<Message>(request);
      const { message, header } = await call.prepared.invoke(call);
      return { messages: message as AsyncIterable<Message>, header };
    },
    async reject(call, error) {
      const method = rejectingMethod(call.method);
      call.values.set(unreadableKey, error);
      call.message = method.nothing;
      try {
        await method.invoke(call);
      } catch (refusal) {
        // The empty request stands in for the one that cannot be read; what is wrong with it is of no interest.
        if (ConnectError.from(refusal).code !== Code.InvalidArgument) throw refusal;
      }
      throw error;
    },
  };
}
