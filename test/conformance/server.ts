import { appendFileSync, readFileSync } from "node:fs";
import { create, createFileRegistry, type DescMessage, fromBinary, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { pino } from "pino";
import { createRpcHandler } from "../../server/src/listener/handler.ts";
import { createListener } from "../../server/src/listener/port.ts";
import { conformanceRoutes } from "./service.ts";

// The server under test, as the suite starts it: it reads a size-delimited request from stdin that says what to serve,
// answers on stdout where it listens, and serves until SIGTERM. Its arguments are the file of descriptors and the one where it notes, at its end, which way calls went.

interface ServerRequest {
  useTls: boolean;
  serverCreds?: { cert: Uint8Array; key: Uint8Array };
  clientTlsCert: Uint8Array;
  messageReceiveLimit: number;
}

const registry = createFileRegistry(
  fromBinary(FileDescriptorSetSchema, readFileSync(process.argv[2] ?? "descriptors.binpb")),
);
const request = fromBinary(
  message("ServerCompatRequest"),
  readFileSync(process.stdin.fd).subarray(4),
) as unknown as ServerRequest;
const logger = pino({ level: "warn" }, pino.destination(2));
const shutdown = new AbortController();

const { handler, lean } = createRpcHandler({
  routes: (router) => conformanceRoutes(router, registry),
  registry,
  shutdownSignal: shutdown.signal,
  limits: request.messageReceiveLimit > 0 ? { readMaxBytes: request.messageReceiveLimit } : {},
  fallback(_, res) {
    res.writeHead(404);
    res.end();
  },
  logger,
});
const creds = request.useTls ? request.serverCreds : undefined;
const listener = createListener({
  handler,
  lean,
  logger,
  ...(creds && {
    tls: {
      cert: Buffer.from(creds.cert),
      key: Buffer.from(creds.key),
      ...(request.clientTlsCert.length > 0 && { clientCa: Buffer.from(request.clientTlsCert) }),
    },
  }),
});

process.once("SIGTERM", () => {
  appendFileSync(process.argv[3] ?? "counts.jsonl", `${JSON.stringify(lean.counts)}\n`);
  void listener.destroy();
});
const { host, port } = await listener.listen({ host: "127.0.0.1", port: 0 });
const responseDesc = message("ServerCompatResponse");
const response = create(responseDesc, { host, port, ...(creds && { pemCert: creds.cert }) });
const bytes = toBinary(responseDesc, response);
const size = Buffer.alloc(4);
size.writeUInt32BE(bytes.length);
process.stdout.write(Buffer.concat([size, bytes]));

function message(name: string): DescMessage {
  const desc = registry.getMessage(`connectrpc.conformance.v1.${name}`);
  if (desc === undefined) throw new Error(`no message ${name} among the suite's descriptors`);
  return desc;
}
