/** Writes that are sent at their time, whether earlier ones are answered or not; in a process of their own. */
import { fork } from "node:child_process";
import { once } from "node:events";
import type { ClientHttp2Session } from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { endWithThisProcess } from "../helpers/server-process.ts";
import { grpcHeaders, openSessions, unary } from "./grpc-calls.ts";
import { asPulsewire, batchOf } from "./sample-payloads.ts";

export interface PacedCommand {
  readonly url: string;
  readonly apiKey: string;
  readonly storeId: string;
  readonly connections: number;
}

interface Burst {
  readonly perSecond: number;
  readonly seconds: number;
}

export interface Sent {
  /** How long each call took, milliseconds. */
  readonly times: number[];
  readonly refused: number;
}

export interface PacedCaller extends AsyncDisposable {
  /** Sends so many calls a second for so long, and waits for all answers. */
  send(perSecond: number, seconds: number): Promise<Sent>;
}

/** Series of a batch, of 50 samples each. */
const seriesOfCall = 4;
const bodiesOfCaller = 50;
const resourceExhausted = 8;

/** Starts a caller in a process of its own, with its connections open. */
export async function startPacedCaller(command: PacedCommand): Promise<PacedCaller> {
  const child = fork(import.meta.filename, { execArgv: [] });
  endWithThisProcess(child);
  const ended = once(child, "exit").then(() => {
    throw new Error("the caller's process ended");
  });
  ended.catch(() => {});
  const ask = async <T>(message: PacedCommand | Burst): Promise<T> => {
    child.send(message);
    const [answer] = (await Promise.race([once(child, "message"), ended])) as [T | { error: string }];
    if (answer && typeof answer === "object" && "error" in answer) throw new Error(answer.error);
    return answer as T;
  };
  await ask(command);
  return {
    send: (perSecond, seconds) => ask<Sent>({ perSecond, seconds }),
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended.catch(() => {});
    },
  };
}

type Send = (burst: Burst) => Promise<Sent>;

async function open({ url, apiKey, storeId, connections }: PacedCommand): Promise<Send> {
  const sessions = await openSessions(url, connections);
  const { writeSamples } = MetricsService.method;
  const headers = { ...grpcHeaders(`/${MetricsService.typeName}/${writeSamples.name}`), "x-api-key": apiKey };
  const startMs = Date.now() - 86_400_000;
  // Made beforehand, so that making them keeps no answer waiting.
  const bodies = Array.from({ length: bodiesOfCaller }, (_, round) =>
    asPulsewire(batchOf("gateway", 0, round, startMs).slice(0, seriesOfCall), storeId),
  );
  return async ({ perSecond, seconds }) => {
    const times: number[] = [];
    let refused = 0;
    const call = async (index: number) => {
      const body = bodies[index % bodies.length] as Buffer;
      const session = sessions[index % sessions.length] as ClientHttp2Session;
      const started = performance.now();
      // A connection with too many calls at once is told so by HTTP/2.
      const { status, reason } = await unary(session, headers, body).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ERR_HTTP2_STREAM_ERROR") throw error;
        return { status: resourceExhausted, reason: error.message };
      });
      times.push(performance.now() - started);
      if (status === resourceExhausted) refused++;
      else if (status !== 0) throw new Error(`grpc-status ${status}: ${reason}`);
    };
    const begun = performance.now();
    const calls: Promise<void>[] = [];
    for (let sent = 0; sent < perSecond * seconds; ) {
      const due = ((performance.now() - begun) / 1_000) * perSecond;
      for (; sent < Math.min(due, perSecond * seconds); sent++) calls.push(call(sent));
      await sleep(2);
    }
    await Promise.all(calls);
    return { times, refused };
  };
}

if (import.meta.main) {
  let send: Send | undefined;
  const answer = async (message: PacedCommand | Burst) => {
    if ("url" in message) {
      send = await open(message);
      return "open";
    }
    if (!send) throw new Error("a caller without connections");
    return await send(message);
  };
  process.on("message", (message: PacedCommand | Burst) => {
    answer(message).then(
      (value) => process.send?.(value),
      (error: Error) => process.send?.({ error: error.stack ?? error.message }),
    );
  });
  process.on("disconnect", () => process.exit());
}
