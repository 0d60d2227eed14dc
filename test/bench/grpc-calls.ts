import { once } from "node:events";
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { fromBinary } from "@bufbuild/protobuf";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { batchFrame, type Stencil, singleFrame } from "./events.ts";
import type { Caller, Workload } from "./workload.ts";

export interface GrpcOptions {
  readonly url: string;
  readonly apiKey: string;
  readonly callers: number;
  /** HTTP/2 connections that the callers share. */
  readonly connections: number;
}

/** Batches over gRPC. */
export function batchWorkload(options: GrpcOptions, size: number): Promise<Workload> {
  return grpcWorkload(
    options,
    IngestionService.method.ingestEvents.name,
    (seed) => batchFrame(seed, size),
    (answer) => {
      const { counts } = fromBinary(IngestionService.method.ingestEvents.output, answer);
      if (counts?.accepted !== size) throw new Error(`${counts?.accepted} of ${size} events were accepted`);
      return size;
    },
  );
}

/** Single events over gRPC. */
export function singleWorkload(options: GrpcOptions): Promise<Workload> {
  return grpcWorkload(options, IngestionService.method.ingestEvent.name, singleFrame, (answer) => {
    const { duplicate, eventId } = fromBinary(IngestionService.method.ingestEvent.output, answer);
    if (duplicate || !eventId) throw new Error("an event was not accepted");
    return 1;
  });
}

/** Unary gRPC by hand: a client library would take the core that the server needs. */
async function grpcWorkload(
  { url, apiKey, callers, connections }: GrpcOptions,
  method: string,
  stencilOf: (seed: number) => Stencil,
  count: (answer: Uint8Array) => number,
): Promise<Workload> {
  const sessions = await openSessions(url, connections);
  const headers = { ...grpcHeaders(`/${IngestionService.typeName}/${method}`), "x-api-key": apiKey };
  const caller = (_: unknown, index: number): Caller => {
    const message = stencilOf(index);
    const session = sessions[index % connections] as ClientHttp2Session;
    return async () => {
      const { status, reason, body } = await unary(session, headers, message.stamp());
      if (status !== 0) throw new Error(`grpc-status ${status}: ${reason}`);
      return count(body);
    };
  };
  return {
    callers: Array.from({ length: callers }, caller),
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close();
    },
  };
}

/** Opens HTTP/2 connections. */
export async function openSessions(url: string, count: number): Promise<ClientHttp2Session[]> {
  const sessions: ClientHttp2Session[] = [];
  for (let index = 0; index < count; index++) {
    const session = connect(url, { settings: { initialWindowSize: 1 << 20 } });
    await once(session, "connect");
    sessions.push(session);
  }
  return sessions;
}

/** The headers of a gRPC call without credentials. */
export const grpcHeaders = (path: string): Record<string, string> => ({
  ":method": "POST",
  ":path": path,
  "content-type": "application/grpc+proto",
  te: "trailers",
});

export interface GrpcAnswer {
  readonly status: number;
  /** `grpc-message`. */
  readonly reason: string | undefined;
  /** The first message. */
  readonly body: Uint8Array;
}

/** One unary call. */
export function unary(
  session: ClientHttp2Session,
  headers: Record<string, string>,
  body: Buffer,
): Promise<GrpcAnswer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers);
    const chunks: Buffer[] = [];
    let status: unknown;
    let reason: unknown;
    const note = (fields: Record<string, unknown>) => {
      status ??= fields["grpc-status"];
      reason ??= fields["grpc-message"];
    };
    stream.on("response", note);
    stream.on("trailers", note);
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("end", () => {
      if (status === undefined) reject(new Error("an answer has no grpc-status"));
      resolve({
        status: Number(status),
        reason: reason as string | undefined,
        body: Buffer.concat(chunks).subarray(5),
      });
    });
    stream.end(body);
    if (stream.destroyed) reject(new Error(`stream error ${constants.NGHTTP2_CANCEL}`));
  });
}
