import { setTimeout as sleep } from "node:timers/promises";
import { create, type DescMessage, type FileRegistry, type Message } from "@bufbuild/protobuf";
import { type Any, anyPack, anyUnpack } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";

// The suite's descriptors are read at run time, so the parts of its messages that are used here are declared by hand.
interface Header {
  name: string;
  value: string[];
}
interface ErrorDefinition {
  code: Code;
  message?: string;
  details: Any[];
}
interface UnaryDefinition {
  responseHeaders: Header[];
  responseTrailers: Header[];
  responseDelayMs: number;
  response:
    | { case: "responseData"; value: Uint8Array }
    | { case: "error"; value: ErrorDefinition }
    | { case: undefined; value?: undefined };
}
interface StreamDefinition {
  responseHeaders: Header[];
  responseTrailers: Header[];
  responseDelayMs: number;
  responseData: Uint8Array[];
  error?: ErrorDefinition;
}
type UnaryRequest = Message & { responseDefinition?: UnaryDefinition };
type StreamRequest = Message & { responseDefinition?: StreamDefinition; fullDuplex?: boolean };

const packageName = "connectrpc.conformance.v1";

/** Registers the service that Connect's conformance suite calls; its comments in the suite say how it must behave. */
export function conformanceRoutes(router: ConnectRouter, registry: FileRegistry): void {
  const service = registry.getService(`${packageName}.ConformanceService`);
  const infoDesc = registry.getMessage(`${packageName}.ConformancePayload.RequestInfo`);
  if (service === undefined || infoDesc === undefined)
    throw new Error("the suite's descriptors are incomplete");
  const requestInfo: DescMessage = infoDesc;

  function describe(requests: Message[], ctx: HandlerContext): Message {
    const timeoutMs = ctx.timeoutMs();
    const query = [...new URL(ctx.url).searchParams];
    return create(requestInfo, {
      requestHeaders: [...ctx.requestHeader].map(([name, value]) => ({ name, value: [value] })),
      requests: requests.map((request) => {
        const desc = registry.getMessage(request.$typeName);
        if (desc === undefined) throw new Error(`unknown message ${request.$typeName}`);
        return anyPack(desc, request);
      }),
      ...(timeoutMs !== undefined && { timeoutMs: BigInt(Math.round(timeoutMs)) }),
      ...(ctx.requestMethod === "GET" && {
        connectGetInfo: { queryParams: query.map(([name, value]) => ({ name, value: [value] })) },
      }),
    });
  }

  function toError(definition: ErrorDefinition, info?: Message): ConnectError {
    const error = new ConnectError(definition.message ?? "", definition.code);
    for (const detail of definition.details) {
      const value = anyUnpack(detail, registry);
      const desc = value && registry.getMessage(value.$typeName);
      if (value === undefined || desc === undefined) throw new Error(`unknown detail ${detail.typeUrl}`);
      error.details.push({ desc, value });
    }
    if (info !== undefined) error.details.push({ desc: requestInfo, value: info });
    return error;
  }

  async function answerOnce(
    definition: UnaryDefinition | undefined,
    requests: Message[],
    ctx: HandlerContext,
  ): Promise<unknown> {
    setMetadata(definition, ctx);
    const info = describe(requests, ctx);
    if (definition !== undefined) await sleep(definition.responseDelayMs);
    if (definition?.response.case === "error") throw toError(definition.response.value, info);
    const data = definition?.response.value;
    return { payload: { requestInfo: info, ...(data !== undefined && { data }) } };
  }

  const unary = (request: UnaryRequest, ctx: HandlerContext) =>
    answerOnce(request.responseDefinition, [request], ctx);

  async function clientStream(requests: AsyncIterable<UnaryRequest>, ctx: HandlerContext) {
    const all = await Array.fromAsync(requests);
    return answerOnce(all[0]?.responseDefinition, all, ctx);
  }

  /** Sends the responses from number `from` on, the request's description with the first, then the error. */
  async function* finish(
    definition: StreamDefinition | undefined,
    from: number,
    requests: Message[],
    ctx: HandlerContext,
  ) {
    if (definition === undefined) return;
    for (const [number, data] of definition.responseData.entries()) {
      if (number < from) continue;
      await sleep(definition.responseDelayMs);
      yield { payload: { data, ...(number === 0 && { requestInfo: describe(requests, ctx) }) } };
    }
    if (definition.error === undefined) return;
    const silent = definition.responseData.length === 0;
    throw toError(definition.error, silent ? describe(requests, ctx) : undefined);
  }

  async function* serverStream(request: StreamRequest, ctx: HandlerContext) {
    setMetadata(request.responseDefinition, ctx);
    yield* finish(request.responseDefinition, 0, [request], ctx);
  }

  async function* bidiStream(requests: AsyncIterable<StreamRequest>, ctx: HandlerContext) {
    let first: StreamRequest | undefined;
    let pending: StreamRequest[] = [];
    let sent = 0;
    for await (const request of requests) {
      if (first === undefined) {
        first = request;
        setMetadata(first.responseDefinition, ctx);
      }
      pending.push(request);
      if (!first.fullDuplex) continue;
      const data = first.responseDefinition?.responseData[sent];
      if (data === undefined) break;
      await sleep(first.responseDefinition?.responseDelayMs ?? 0);
      yield { payload: { data, requestInfo: describe(pending, ctx) } };
      sent++;
      pending = [];
    }
    yield* finish(first?.responseDefinition, sent, pending, ctx);
  }

  router.service(service, { unary, idempotentUnary: unary, clientStream, serverStream, bidiStream } as never);
}

function setMetadata(
  definition: Pick<UnaryDefinition, "responseHeaders" | "responseTrailers"> | undefined,
  ctx: HandlerContext,
): void {
  for (const { name, value } of definition?.responseHeaders ?? []) {
    for (const each of value) ctx.responseHeader.append(name, each);
  }
  for (const { name, value } of definition?.responseTrailers ?? []) {
    for (const each of value) ctx.responseTrailer.append(name, each);
  }
}
