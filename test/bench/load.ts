/** The process that makes the load, apart from the server: told over IPC what to open and for how long to run it. */
import type { ClientConfig } from "pg";
import { type CheckOptions, checkWorkload } from "./auth-calls.ts";
import { copyWorkload } from "./copy.ts";
import { batchWorkload, patientWorkload } from "./grpc-calls.ts";
import { type Http1CallOptions, http1Workload } from "./http1-calls.ts";
import { jsonWorkload } from "./json-calls.ts";
import { type RpcCallOptions, rpcGrpcWorkload, rpcJsonWorkload, singleWorkload } from "./rpc-calls.ts";
import { type SampleLoad, sampleWorkload } from "./sample-calls.ts";
import { type WatchOptions, watchWorkload } from "./watch-calls.ts";
import { type Round, runRound, type Workload } from "./workload.ts";

/** What to run. */
export type LoadCommand = { readonly seconds: number } & (
  | {
      readonly kind: "copy";
      readonly database: ClientConfig;
      readonly callers: number;
      readonly size: number;
    }
  | {
      readonly kind: "batch";
      readonly url: string;
      readonly apiKey: string;
      readonly callers: number;
      readonly connections: number;
      readonly size: number;
    }
  | {
      /** Batches of callers that come back when they are told to. */
      readonly kind: "patient";
      readonly url: string;
      readonly apiKey: string;
      readonly callers: number;
      readonly connections: number;
      readonly size: number;
    }
  | {
      readonly kind: "single";
      readonly url: string;
      readonly apiKey: string;
      readonly callers: number;
      readonly connections: number;
    }
  | ({ readonly kind: "check" } & CheckOptions)
  | ({ readonly kind: "rpc-grpc" | "rpc-json" } & RpcCallOptions)
  | ({ readonly kind: "samples" } & SampleLoad)
  | ({ readonly kind: "watch" } & WatchOptions)
  | {
      readonly kind: "json";
      readonly url: string;
      readonly apiKey: string;
      readonly callers: number;
      /** Default: IngestEvent. */
      readonly path?: string;
    }
  | ({ readonly kind: "http1" } & Http1CallOptions)
);

export type LoadAnswer = { readonly ready: true } | { readonly round: Round } | { readonly error: string };

function open(command: LoadCommand): Promise<Workload> {
  switch (command.kind) {
    case "copy":
      return copyWorkload(command.database, command.callers, command.size);
    case "batch":
      return batchWorkload(command, command.size);
    case "patient":
      return patientWorkload(command, command.size);
    case "single":
      return singleWorkload(command);
    case "check":
      return checkWorkload(command);
    case "rpc-grpc":
      return rpcGrpcWorkload(command);
    case "rpc-json":
      return rpcJsonWorkload(command);
    case "samples":
      return sampleWorkload(command);
    case "watch":
      return watchWorkload(command);
    case "http1":
      return http1Workload(command);
    case "json":
      return jsonWorkload(command.url, command.apiKey, command.callers, command.path);
  }
}

const tell = (answer: LoadAnswer) => process.send?.(answer);

let go = Promise.withResolvers<void>();
process.on("message", (message: LoadCommand | "go") => {
  if (message === "go") {
    go.resolve();
    return;
  }
  go = Promise.withResolvers();
  run(message).catch((error: Error) => tell({ error: error.stack ?? error.message }));
});
process.on("disconnect", () => process.exit());

/** Preparing is not measured: the parent reads its clocks between `ready` and `go`. */
async function run(command: LoadCommand): Promise<void> {
  await using workload = await open(command);
  tell({ ready: true });
  await go.promise;
  tell({ round: await runRound(workload, command.seconds) });
}
