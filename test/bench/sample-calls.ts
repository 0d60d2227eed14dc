import http from "node:http";
import { fromBinary } from "@bufbuild/protobuf";
import { MetricsService } from "../../sdk/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { grpcHeaders, openSessions, unary } from "./grpc-calls.ts";
import { asLines, asPulsewire, batchOf, batchSize, type Shape } from "./sample-payloads.ts";
import type { Caller, Workload } from "./workload.ts";

export interface SampleLoad {
  /** Pulsewire over gRPC; or whoever takes InfluxDB's line protocol. */
  readonly target:
    | { readonly kind: "pulsewire"; readonly url: string; readonly apiKey: string; readonly storeId: string }
    | { readonly kind: "lines"; readonly url: string };
  readonly shape: Shape;
  readonly callers: number;
  /** Batches that each caller sends, from this number on. */
  readonly firstBatch: number;
  readonly batches: number;
  readonly startMs: number;
}

/** Callers that send batches of samples, made beforehand, until there are no more. */
export async function sampleWorkload(load: SampleLoad): Promise<Workload> {
  const { target, shape, callers, firstBatch, batches, startMs } = load;
  // In the order of their times, as if each sender had its own connection.
  const queue: Buffer[] = [];
  for (let number = firstBatch + batches - 1; number >= firstBatch; number--) {
    for (let sender = 0; sender < callers; sender++) {
      const batch = batchOf(shape, sender, number, startMs);
      queue.push(target.kind === "pulsewire" ? asPulsewire(batch, target.storeId) : asLines(batch));
    }
  }
  const sender = target.kind === "pulsewire" ? await grpcSender(target) : lineSender(target.url);
  return {
    callers: Array.from(
      { length: callers },
      (): Caller => async () => {
        await sender.send(queue.pop() as Buffer);
        return batchSize;
      },
    ),
    isDone: () => queue.length === 0,
    async [Symbol.asyncDispose]() {
      sender.close();
    },
  };
}

async function grpcSender({ url, apiKey }: { url: string; apiKey: string }) {
  const sessions = await openSessions(url, 2);
  const { writeSamples } = MetricsService.method;
  const headers = { ...grpcHeaders(`/${MetricsService.typeName}/${writeSamples.name}`), "x-api-key": apiKey };
  let next = 0;
  return {
    async send(payload: Buffer) {
      const session = sessions[next++ % sessions.length] as (typeof sessions)[number];
      const { status, reason, body } = await unary(session, headers, payload);
      if (status !== 0) throw new Error(`grpc-status ${status}: ${reason}`);
      const { counts } = fromBinary(writeSamples.output, body);
      if (counts?.accepted !== batchSize) throw new Error(`${counts?.accepted} samples were accepted`);
    },
    close() {
      for (const session of sessions) session.close();
    },
  };
}

function lineSender(url: string) {
  const agent = new http.Agent({ keepAlive: true });
  return {
    send: (payload: Buffer) =>
      new Promise<void>((resolve, reject) => {
        const req = http.request(url, { method: "POST", agent }, (res) => {
          let said = "";
          res.setEncoding("utf8").on("data", (text) => {
            said += text;
          });
          res.on("end", () =>
            res.statusCode === 204 ? resolve() : reject(new Error(`${res.statusCode}: ${said}`)),
          );
        });
        req.on("error", reject);
        req.end(payload);
      }),
    close: () => agent.destroy(),
  };
}
