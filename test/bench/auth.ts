/**
 * What authentication costs: node test/bench/auth.ts [--json file] [--seconds n] [--rounds n] [--keys n] [--profile]
 *
 * The same call, a health check, without credentials, with API keys and with tokens, on the real server and a database
 * full of keys, in turns, so that all meet the same machine. Fails when a call that should cost no query made one.
 */

import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { startServerProcess } from "../helpers/server-process.ts";
import { type Case, firstPassOf, makeCases } from "./auth-cases.ts";
import { createAuthDatabase, tenants } from "./auth-database.ts";
import { type Bench, callers, measure, measureInTurns, sliceSeconds } from "./auth-measure.ts";
import { authResult } from "./auth-result.ts";
import { startLoadProcess } from "./load-process.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, printResult, writeReport } from "./report.ts";

const firstPassSeconds = 600;

export interface AuthBenchOptions {
  readonly seconds: number;
  readonly rounds: number;
  /** API keys in the database. Default 100,000. */
  readonly keys?: number;
  /** Also profiles the server, in rounds that do not count. */
  readonly profile?: boolean;
}

export async function authBench(options: AuthBenchOptions): Promise<BenchResult> {
  const { seconds, rounds, keys = 100_000, profile } = options;
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using database = await createAuthDatabase(dataDir, { keys, sessions: 10_000 });
    const nodeOptions = profile ? profilableOptions : [];
    const start = async (settings: Record<string, string>) =>
      startServerProcess(
        {
          ...database.settings,
          ...settings,
          PULSEWIRE_DATA_DIR: dataDir,
          // What runs in the background asks the database, too.
          PULSEWIRE_ROLE: "api",
          PULSEWIRE_USAGE_INTERVAL: "60",
          LOG_LEVEL: "warn",
          PORT: await freePort(),
        },
        { nodeOptions },
      );
    // Longer than a run, so that no warm key has to be looked up again: that happens once in a TTL.
    await using usual = await start({ API_KEY_CACHE_TTL: "86400" });
    await using forgetful = await start({ API_KEY_CACHE_TTL: "0" });
    await using load = startLoadProcess();
    const bench = { database, servers: { usual, forgetful }, load, warmedAtMs: performance.now() };

    const firstPass = await measure(bench, "json", firstPassOf(database, keys), firstPassSeconds);
    if (firstPass.calls !== keys) throw new Error(`${firstPass.calls} of ${keys} keys were tried`);
    const cases = await makeCases(database, dataDir, keys);
    const measured = await measureInTurns(bench, cases, { seconds, rounds });
    if (profile) await profileCases(bench, cases, seconds);
    for (const server of [usual, forgetful]) await server.stop();
    return authResult({ measured, firstPass, seconds, rounds, keys, callers, tenants, sliceSeconds });
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

async function profileCases(bench: Bench, cases: readonly Case[], seconds: number): Promise<void> {
  for (const each of cases) {
    using profiler = await connectProfiler(bench.servers[each.server].notices);
    await profiler.start();
    await measure(bench, "grpc", each, seconds);
    printSummary(each.title, summarize(await profiler.stop()));
  }
}

async function freePort(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return String(port);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "3" },
      rounds: { type: "string", default: "5" },
      keys: { type: "string", default: "100000" },
      profile: { type: "boolean", default: false },
    },
  });
  const result = await authBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    keys: Number(values.keys),
    profile: values.profile,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
