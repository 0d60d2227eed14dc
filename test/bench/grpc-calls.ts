import { once } from "node:events";
import { type ClientHttp2Session, connect, constants } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack, durationMs } from "@bufbuild/protobuf/wkt";
import { IngestionService } from "../../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { RetryInfoSchema } from "../../server/src/gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../../server/src/gen/google/rpc/status_pb.js";
import { batchFrame, type Stencil } from "./events.ts";
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

/** Batches over gRPC by callers that, when they are refused, come back after the time that they are told. */
export async function patientWorkload(options: GrpcOptions, size: number): Promise<Workload> {
  const sessions = await openSessions(options.url, options.connections);
  const { ingestEvents } = IngestionService.method;
  const headers = {
    ...grpcHeaders(`/${IngestionService.typeName}/${ingestEvents.name}`),
    "x-api-key": options.apiKey,
  };
  let refused = 0;
  const caller = (_: unknown, index: number): Caller => {
    const message = batchFrame(index, size);
    const session = sessions[index % options.connections] as ClientHttp2Session;
    let notBefore = 0;
    return async () => {
      const waitMs = notBefore - performance.now();
      if (waitMs > 0) {
        await sleep(Math.min(waitMs, longestSleepMs));
        return 0;
      }
      const answer = await unary(session, headers, message.stamp());
      if (answer.status === 0) {
        const { counts } = fromBinary(ingestEvents.output, answer.body);
        if (counts?.accepted !== size) throw new Error(`${counts?.accepted} of ${size} events were accepted`);
        return size;
      }
      const delayMs = answer.status === resourceExhausted ? retryDelayOf(answer.details) : undefined;
      if (delayMs === undefined) throw new Error(`grpc-status ${answer.status}: ${answer.reason}`);
      refused++;
      notBefore = performance.now() + delayMs;
      return 0;
    };
  };
  return {
    callers: Array.from({ length: options.callers }, caller),
    refused: () => refused,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close();
    },
  };
}

const resourceExhausted = 8;
/** So that a round can end while callers wait. */
const longestSleepMs = 100;

/** The delay of a refusal; undefined where it has none. */
function retryDelayOf(details: string | undefined): number | undefined {
  if (!details) return undefined;
  const status = fromBinary(StatusSchema, Buffer.from(details, "base64"));
  for (const any of status.details) {
    const info = anyUnpack(any, RetryInfoSchema);
    if (info?.retryDelay) return durationMs(info.retryDelay);
  }
  return undefined;
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
  /** `grpc-status-details-bin`. */
  readonly details: string | undefined;
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
    let details: unknown;
    const note = (fields: Record<string, unknown>) => {
      status ??= fields["grpc-status"];
      reason ??= fields["grpc-message"];
      details ??= fields["grpc-status-details-bin"];
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
        details: details as string | undefined,
        body: Buffer.concat(chunks).subarray(5),
      });
    });
    stream.end(body);
    if (stream.destroyed) reject(new Error(`stream error ${constants.NGHTTP2_CANCEL}`));
  });
}
