/**
 * Ingestion that goes on while workers fold everything: node test/bench/sustained.ts [--seconds 180] [--json file]
 *
 * The real server with its worker on its own durable PostgreSQL, the load in a process of its own; COPY before and after, so that
 * the rate has a yardstick from the same minutes. In the end the answers, the table and the rollups must agree.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { IngestionService } from "../../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { connectToDatabase } from "../faults/database.ts";
import { postmasterOf } from "../faults/processes.ts";
import { grpcSession } from "../helpers/server.ts";
import { readDemoKey, startServerProcess } from "../helpers/server-process.ts";
import { type CpuReading, cpuBetween, readCpu } from "./cpu.ts";
import { startLoadProcess } from "./load-process.ts";
import { type BenchResult, printResult, show, spreadOf, writeReport } from "./report.ts";

const batchSize = 500;
const copySeconds = 8;
const sampleMs = 2_000;

export async function sustainedBench({ seconds }: { readonly seconds: number }): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    await using load = startLoadProcess();
    await using database = await connectToDatabase(dataDir);
    const postmaster = postmasterOf(dataDir);
    const apiKey = readDemoKey(dataDir);
    using session = grpcSession(server.url, { "x-api-key": apiKey });
    const ingestion = createClient(IngestionService, session.transport);
    const { host, user, database: name } = database;
    const copy = async () => {
      const round = await load.run({
        kind: "copy",
        database: { host, user: user as string, database: name as string },
        callers: 2,
        size: batchSize,
        seconds: copySeconds,
      });
      return round.events / round.seconds;
    };

    const copies = [await copy()];
    const lags: number[] = [];
    let watching = true;
    const watch = (async () => {
      while (watching) {
        await sleep(sampleMs);
        const { lag } = await ingestion.getIngestStats({});
        lags.push(lag ? durationMs(lag) : 0);
      }
    })();
    let cpu: CpuReading = { server: 0, postgres: 0 };
    let before = cpu;
    const round = await load.run(
      { kind: "batch", url: server.url, apiKey, callers: 8, connections: 4, size: batchSize, seconds },
      () => {
        before = readCpu(server.pid, postmaster);
      },
      () => {
        cpu = cpuBetween(before, readCpu(server.pid, postmaster));
      },
    );
    const { lag } = await ingestion.getIngestStats({});
    const lagMs = lag ? durationMs(lag) : 0;
    watching = false;
    await watch;
    const ended = performance.now();
    while ((await ingestion.getIngestStats({})).pending > 0n) await sleep(50);
    const restSeconds = (performance.now() - ended) / 1_000;
    copies.push(await copy());

    const { rows } = await database.query<{ stored: number }>("select count(*)::int as stored from events");
    const { totalEvents } = await ingestion.getAnalytics({ timeRange: "24h" });
    const { totalIngested } = await ingestion.getIngestStats({});
    for (const counted of [rows[0]?.stored, Number(totalEvents), Number(totalIngested)]) {
      if (counted !== round.events)
        throw new Error(`${round.events} events were acknowledged, ${counted} counted`);
    }
    await server.stop();
    const rate = round.events / round.seconds;
    const yardstick = spreadOf(copies).median;
    const lag95 = lags.toSorted((a, b) => a - b)[Math.floor(0.95 * (lags.length - 1))] ?? 0;
    const micros = (of: number) => show((of * 1e6) / round.events);
    return {
      name: "sustained",
      title: `Ingest for ${seconds} s with everything folded meanwhile`,
      columns: [
        "",
        "events/s",
        "of COPY",
        "server µs",
        "PostgreSQL µs",
        "lag at the end s",
        "p95 of lag s",
        "rest s",
      ],
      rows: [
        ["COPY by 500, 2 connections, before and after", show(yardstick), "1×", "", "", "", "", ""],
        [
          "gRPC batches of 500, and the worker",
          show(rate),
          `${show(rate / yardstick)}×`,
          micros(cpu.server),
          micros(cpu.postgres),
          show(lagMs / 1_000),
          show(lag95 / 1_000),
          show(restSeconds),
        ],
      ],
      notes: [`${show(round.events)} events acknowledged, as many in the table and in the rollups.`],
      figures: {
        seconds,
        rate,
        copies,
        ratio: rate / yardstick,
        lagMs,
        lags,
        restSeconds,
        cpu,
        events: round.events,
      },
    };
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: { json: { type: "string" }, seconds: { type: "string", default: "180" } },
  });
  const result = await sustainedBench({ seconds: Number(values.seconds) });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
