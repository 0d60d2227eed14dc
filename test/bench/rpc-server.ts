/**
 * A server of the benches of RPC, as a process of its own: `node rpc-server.ts <kind>`. All do the same nothing: they read a
 * GetProgressRequest and answer with an empty GetProgressResponse, and push the same messages to all who watch progress.
 * Ours does it behind all interceptors of the service.
 */
import { once } from "node:events";
import { mkdtempSync } from "node:fs";
import { createServer as createHttp1 } from "node:http";
import { createServer as createHttp2 } from "node:http2";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { create, createRegistry, fromBinary, toBinary, toJsonString } from "@bufbuild/protobuf";
import type { ConnectRouter, ContextValues } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import * as grpc from "@grpc/grpc-js";
import Fastify from "fastify";
import { pino } from "pino";
import { envToConfig } from "../../server/src/config/config.ts";
import { createContext } from "../../server/src/context.ts";
import { prepareDemo } from "../../server/src/demo.ts";
import { ProcessingStatus } from "../../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import type {
  GetProgressRequest,
  GetProgressResponse,
  WatchProgressResponse,
} from "../../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { createRpcHandler } from "../../server/src/listener/handler.ts";
import type { Peer } from "../../server/src/listener/lean/path.ts";
import { createListener } from "../../server/src/listener/port.ts";
import { createCalls } from "../../server/src/rest/calls.ts";
import { createRestHandler } from "../../server/src/rest/handler.ts";
import { clientAddressKey, createClientAddress } from "../../server/src/rpc/client-address.ts";
import { explainProtocolError } from "../../server/src/rpc/errors.ts";
import { PushStream } from "../../server/src/rpc/push-stream.ts";
import { interceptorsOf } from "../../server/src/server.ts";
import { type WatchCommand, Watchers } from "./watchers.ts";

/** What the process tells its parent once it serves. */
export interface RpcServerReady {
  readonly url: string;
  readonly apiKey?: string;
}

const kinds: Record<string, () => Promise<RpcServerReady>> = {
  ours,
  "connect-node": () => listen(createHttp2(connectNodeAdapter({ routes }))),
  "connect-node-h1": () => listen(createHttp1(connectNodeAdapter({ routes }))),
  "grpc-js": grpcJs,
  fastify,
  sse,
};

const { getProgress, watchProgress } = ProgressService.method;
const { ingestEvent } = IngestionService.method;
const watchers = new Watchers();

/** An event that is taken and forgotten. */
const taken = { eventId: "evt_1", processingStatus: ProcessingStatus.QUEUED };

/** The handlers; a stream that is read as an iterable ends by itself when its reader has gone. */
function routes(router: ConnectRouter, endsItself = true): void {
  router.rpc(getProgress, () => ({}));
  router.rpc(ingestEvent, () => taken);
  // For connect-node it is an async iterable, and the head of its answer waits for a first message.
  const first = create(watchProgress.output, { snapshotComplete: true });
  router.rpc(
    watchProgress,
    (_, context) =>
      new PushStream<WatchProgressResponse>((sink) => {
        sink.write(first);
        if (endsItself) context.signal.addEventListener("abort", () => sink.end());
        return watchers.add(sink);
      }),
  );
}

/** What a browser would be given without any framework: server-sent events over HTTP/1.1. */
function sse(): Promise<RpcServerReady> {
  let last: WatchProgressResponse | undefined;
  let event = "";
  const server = createHttp1((req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.flushHeaders();
    const leave = watchers.add({
      write(message) {
        if (message !== last) {
          last = message;
          event = `data: ${toJsonString(watchProgress.output, message)}\n\n`;
        }
        return res.write(event);
      },
      onDrain: (listener) => res.once("drain", listener),
    });
    req.resume();
    res.on("close", leave);
  });
  return listen(server);
}

async function ours(): Promise<RpcServerReady> {
  const dataDir = mkdtempSync(path.join(tmpdir(), "pulsewire-bench-"));
  const config = envToConfig({ PULSEWIRE_DATA_DIR: dataDir, PORT: "0" });
  const logger = pino({ level: config.logLevel, base: null }, pino.destination({ dest: 2, sync: false }));
  const context = await createContext(config, logger);
  const clientAddress = createClientAddress(config);
  const limits = { readMaxBytes: config.maxMessageBytes };
  const interceptors = interceptorsOf(context);
  const prepare = (values: ContextValues, peer: Peer) =>
    void values.set(clientAddressKey, clientAddress(peer));
  const calls = createCalls({ interceptors, prepare });
  calls.service(IngestionService, { ingestEvent: () => taken });
  const answerRest = createRestHandler({
    services: [IngestionService],
    calls,
    shutdownSignal: context.shutdown.signal,
    registry: createRegistry(),
    maxBodyBytes: limits.readMaxBytes,
    logger,
    alsoTaken: new Map(),
    observe() {},
  });
  const { handler, lean } = createRpcHandler({
    routes: (router) => routes(router, false),
    interceptors,
    prepare,
    shutdownSignal: context.shutdown.signal,
    limits,
    amendError: explainProtocolError(limits),
    registry: createRegistry(),
    fallback(req, res) {
      if (answerRest(req, res)) return;
      res.writeHead(404);
      res.end();
    },
    logger,
  });
  const listener = createListener({ handler, lean, limits, logger });
  const { url } = await listener.listen({ host: "127.0.0.1", port: 0 });
  const demo = await prepareDemo(context, url);
  if (!demo) throw new Error("the new database has no demo tenant");
  process.once("disconnect", async () => {
    await listener.destroy();
    await context.close();
    process.exit();
  });
  return { url, apiKey: demo.apiKey };
}

async function grpcJs(): Promise<RpcServerReady> {
  const server = new grpc.Server();
  const { input, output } = getProgress;
  const definition: grpc.MethodDefinition<GetProgressRequest, GetProgressResponse> = {
    path: `/${ProgressService.typeName}/GetProgress`,
    requestStream: false,
    responseStream: false,
    requestDeserialize: (bytes) => fromBinary(input, bytes),
    requestSerialize: (message) => Buffer.from(toBinary(input, message)),
    responseSerialize: (message) => Buffer.from(toBinary(output, message)),
    responseDeserialize: (bytes) => fromBinary(output, bytes),
  };
  server.addService(
    { getProgress: definition },
    {
      getProgress: (_: unknown, answer: grpc.sendUnaryData<GetProgressResponse>) =>
        answer(null, create(output)),
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { url: `http://127.0.0.1:${port}` };
}

/** With schemas for both sides, which is how it is fastest. */
async function fastify(): Promise<RpcServerReady> {
  const app = Fastify();
  const body = {
    type: "object",
    properties: { clientKrn: { type: "string" }, filename: { type: "string" } },
  };
  app.post(
    `/${ProgressService.typeName}/GetProgress`,
    { schema: { body, response: { 200: { type: "object", properties: {} } } } },
    async () => ({}),
  );
  const text = { type: "string" };
  const event = {
    type: "object",
    required: ["eventType"],
    properties: {
      eventId: text,
      eventType: { type: "string", minLength: 1, maxLength: 200 },
      title: text,
      userId: text,
      sessionId: text,
      timestamp: { type: "string", format: "date-time" },
      priority: { type: "integer", minimum: 0, maximum: 10 },
      metrics: { type: "object", additionalProperties: { type: "number" } },
      payload: { type: "object", additionalProperties: true },
    },
  };
  const answer = {
    type: "object",
    properties: { eventId: text, duplicate: { type: "boolean" }, processingStatus: text },
  };
  app.post("/v1/events", { schema: { body: event, response: { 200: answer } } }, async () => ({
    eventId: "evt_1",
    duplicate: false,
    processingStatus: "PROCESSING_STATUS_QUEUED",
  }));
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  return { url };
}

async function listen(server: Server): Promise<RpcServerReady> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

const kind = kinds[process.argv[2] ?? ""];
if (!kind) throw new Error(`unknown kind of server: ${process.argv[2]}`);
process.on("message", (command: WatchCommand) => void watchers.obey(command));
// Ours has a database to stop first.
if (kind !== ours) process.on("disconnect", () => process.exit());
process.send?.(await kind());
