/** Calls of the service from within the process: the same interceptors and handlers as over any wire. */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  type MessageShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createHandlerContext,
  createServiceImplSpec,
  type Interceptor,
  type MethodImplSpec,
  type ServiceImpl,
} from "@connectrpc/connect";
import { invokeUnaryImplementation, transformInvokeImplementation } from "@connectrpc/connect/protocol";

type AnyMessage = MessageShape<DescMessage>;

/** What a call brings besides its message. */
export interface CallOptions {
  readonly requestMethod: string;
  readonly url: string;
  readonly header: Headers;
  readonly contextValues: ContextValues;
  /** Aborted when the client has gone. */
  readonly signal: AbortSignal;
}

/** The answer of a unary call. */
export interface CallAnswer {
  readonly message: AnyMessage;
  readonly header: Headers;
}

/** The answer of a server-streaming call; `header` is complete when the first message has come. */
export interface StreamAnswer {
  readonly messages: AsyncIterable<AnyMessage>;
  readonly header: Headers;
}

export interface Calls {
  unary(method: DescMethod, request: AnyMessage, options: CallOptions): Promise<CallAnswer>;
  stream(method: DescMethod, request: AnyMessage, options: CallOptions): StreamAnswer;
  /**
   * Rejects a call whose request could not be read with `error`, but only after the caller was found to be allowed to make it:
   * whoever is not learns that, and nothing else.
   */
  reject(method: DescMethod, error: unknown, options: CallOptions): Promise<never>;
}

/** A place where services are registered, as the routers of the wires are. */
export interface CallRegistry extends Calls {
  service<S extends DescService>(service: S, implementation: Partial<ServiceImpl<S>>): this;
}

const protocolName = "rest";

/** Calls without any wire. */
export function createCalls(interceptors: Interceptor[], shutdownSignal: AbortSignal): CallRegistry {
  const specs = new Map<DescMethod, MethodImplSpec>();
  const specOf = (method: DescMethod) => {
    const spec = specs.get(method);
    if (!spec) throw new Error(`${method.parent.typeName}.${method.name} is not registered`);
    return spec;
  };
  const contextOf = (
    method: DescMethod,
    { requestMethod, url, header, contextValues, signal }: CallOptions,
  ) =>
    createHandlerContext({
      service: method.parent,
      method,
      protocolName,
      requestMethod,
      url,
      requestHeader: header,
      contextValues,
      requestSignal: signal,
      shutdownSignal,
    });
  return {
    service(service, implementation) {
      const { methods } = createServiceImplSpec(service, implementation as ServiceImpl<typeof service>);
      for (const spec of Object.values(methods)) specs.set(spec.method, spec);
      return this;
    },
    async unary(method, request, options) {
      const spec = specOf(method);
      if (spec.kind !== "unary") throw new Error(`${method.name} is not unary`);
      const context = contextOf(method, options);
      try {
        const message = await invokeUnaryImplementation(spec, context, request, interceptors);
        return { message, header: context.responseHeader };
      } finally {
        context.abort();
      }
    },
    async reject(method, error, options) {
      const context = contextOf(method, options);
      const unreadable = method as DescMethodUnary;
      const impl = () => {
        throw error;
      };
      const spec = { kind: "unary", method: unreadable, impl } as const;
      try {
        await invokeUnaryImplementation(spec, context, create(method.input), interceptors);
      } catch (refusal) {
        // The empty request stands in for the one that cannot be read; what is wrong with it is of no interest.
        if (ConnectError.from(refusal).code !== Code.InvalidArgument) throw refusal;
      } finally {
        context.abort();
      }
      throw error;
    },
    stream(method, request, options) {
      const spec = specOf(method);
      const context = contextOf(method, options);
      async function* run() {
        try {
          yield* transformInvokeImplementation(spec, context, interceptors)(once(request));
        } finally {
          context.abort();
        }
      }
      return { messages: run(), header: context.responseHeader };
    },
  };
}

async function* once<T>(item: T): AsyncGenerator<T> {
  yield item;
}
