import {
  type DescMethod,
  fromJson,
  type JsonObject,
  type Message,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type CallOptions, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";

/** The protocols of the one port. */
export const wireNames = ["gRPC", "gRPC-Web", "Connect", "Connect JSON", "Connect GET"] as const;
export type WireName = (typeof wireNames)[number];

/** One connection that speaks all protocols; closes with its block. */
export interface Wires extends Disposable {
  readonly transports: Record<WireName, Transport>;
}

/** Opens it. Only reads go out as GET. */
export function openWires(baseUrl: string): Wires {
  const sessionManager = new Http2SessionManager(baseUrl);
  const options = { baseUrl, sessionManager, httpVersion: "2" } as const;
  return {
    transports: {
      gRPC: createGrpcTransport({ baseUrl, sessionManager }),
      "gRPC-Web": createGrpcWebTransport(options),
      Connect: createConnectTransport(options),
      "Connect JSON": createConnectTransport({ ...options, useBinaryFormat: false }),
      "Connect GET": createConnectTransport({ ...options, useBinaryFormat: false, useHttpGet: true }),
    },
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

/** How a call ended, whatever the method. */
export interface Answer {
  /** The messages of the answer: one of a unary call. */
  readonly messages: Message[];
  readonly error: ConnectError | undefined;
  /** All that came back, for a look at what must not be in it: messages in binary and JSON, headers, the error. */
  readonly content: Buffer;
}

/** No call takes this long. */
const deadlineMs = 20_000;
/** How long a stream that has nothing to say is listened to. */
const streamPatienceMs = 300;

/** Calls any method with a request in JSON. A stream is read until it ends or falls silent. */
export async function callAny(
  transport: Transport,
  method: DescMethod,
  request: JsonObject,
  headers: Record<string, string>,
): Promise<Answer> {
  const seen: Uint8Array[] = [];
  const messages: Message[] = [];
  const leave = new AbortController();
  const note = (metadata: Headers) => {
    seen.push(Buffer.from(JSON.stringify([...metadata])));
  };
  const take = (message: Message) => {
    messages.push(message);
    seen.push(toBinary(method.output, message), Buffer.from(JSON.stringify(toJson(method.output, message))));
  };
  const input = fromJson(method.input, request);
  const { signal } = leave;
  const options: CallOptions = { headers, signal, timeoutMs: deadlineMs, onHeader: note, onTrailer: note };
  const call = callerOf(method, transport);
  let error: ConnectError | undefined;
  try {
    if (method.methodKind === "unary") take((await call(input, options)) as Message);
    else await readStream(call(streams(method) ? only(input) : input, options), leave, take);
  } catch (thrown) {
    error = ConnectError.from(thrown);
    seen.push(...contentOf(error));
  }
  return { messages, error, content: Buffer.concat(seen) };
}

type Caller = (input: unknown, options: CallOptions) => unknown;

function callerOf(method: DescMethod, transport: Transport): Caller {
  const client = createClient(method.parent, transport) as Record<string, Caller>;
  const call = client[method.localName];
  if (!call) throw new TypeError(`no method ${method.name}`);
  return call;
}

const streams = ({ methodKind }: DescMethod) =>
  methodKind === "bidi_streaming" || methodKind === "client_streaming";

async function* only<T>(message: T) {
  yield message;
}

async function readStream(
  stream: unknown,
  leave: AbortController,
  take: (message: Message) => void,
): Promise<void> {
  let silence: NodeJS.Timeout | undefined;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => leave.abort(), streamPatienceMs);
  };
  listen();
  try {
    for await (const message of stream as AsyncIterable<Message>) {
      take(message);
      listen();
    }
  } catch (error) {
    if (!leave.signal.aborted) throw error;
  } finally {
    clearTimeout(silence);
  }
}

function contentOf(error: ConnectError): Uint8Array[] {
  const details = error.details.map((detail) =>
    "value" in detail ? (detail.value as Uint8Array) : Buffer.from(JSON.stringify(detail)),
  );
  return [Buffer.from(error.rawMessage), Buffer.from(JSON.stringify([...error.metadata])), ...details];
}
