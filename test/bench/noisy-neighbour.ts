/**
 * What a tenant at 20 times its limit does to another's writes: node test/bench/noisy-neighbour.ts [--seconds n] [--rounds n]
 * [--profile] [--json file]
 *
 * One tenant, without a limit, writes at a steady rate: enough for a p99. The other may send so many calls a minute and sends 20 times as
 * many, in every second round. Calls are sent at their time, whether earlier ones are answered or not; each tenant has a process of its own.
 */
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { createClient } from "@connectrpc/connect";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../../server/src/gen/pulsewire/options/v1/access_pb.js";
import { postmasterOf } from "../faults/processes.ts";
import { grpcSession } from "../helpers/server.ts";
import { startServerProcess } from "../helpers/server-process.ts";
import { cpuBetween, readCpu } from "./cpu.ts";
import { type Sent, startPacedCaller } from "./paced-calls.ts";
import { connectProfiler, printSummary, profilableOptions, summarize } from "./profile.ts";
import { type BenchResult, printResult, show, spreadOf, writeReport } from "./report.ts";

const calmPerSecond = 100;
/** The limit of the noisy tenant. */
const callsPerMinute = 1_200;
const noisyPerSecond = (20 * callsPerMinute) / 60;
const noisyConnections = 8;

/** A round of the calm tenant, alone or beside the other. */
interface Round {
  readonly calm: Sent;
  readonly noisy: Sent | undefined;
  readonly serverCpu: number;
  readonly postgresCpu: number;
}

export async function noisyNeighbourBench({
  seconds,
  rounds,
  profile = false,
}: {
  seconds: number;
  rounds: number;
  profile?: boolean;
}): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    const tenants = await prepare(dataDir);
    await using server = await startServerProcess(
      {
        PULSEWIRE_DATA_DIR: dataDir,
        PULSEWIRE_TENANT_LIMITS: `requests_per_minute=${callsPerMinute}`,
        PULSEWIRE_PLATFORM_ADMINS: `${tenants.calm.email}/${tenants.calm.slug}`,
      },
      { nodeOptions: profile ? profilableOptions : [] },
    );
    using profiler = profile ? await connectProfiler(server.notices) : undefined;
    const url = server.url;
    await withoutLimit(url, tenants.calm);
    await using calm = await startPacedCaller({ url, ...tenants.calm, connections: 1 });
    await using noisy = await startPacedCaller({ url, ...tenants.noisy, connections: noisyConnections });
    const postmaster = postmasterOf(dataDir);
    const measure = async (noise: boolean): Promise<Round> => {
      const before = readCpu(server.pid, postmaster);
      const [ofCalm, ofNoisy] = await Promise.all([
        calm.send(calmPerSecond, seconds),
        noise ? noisy.send(noisyPerSecond, seconds) : undefined,
      ]);
      const cpu = cpuBetween(before, readCpu(server.pid, postmaster));
      return { calm: ofCalm, noisy: ofNoisy, serverCpu: cpu.server, postgresCpu: cpu.postgres };
    };
    // Not measured: the first calls of a process are slow.
    await measure(true);
    const alone: Round[] = [];
    const beside: Round[] = [];
    for (let round = 0; round < rounds; round++) {
      alone.push(await measure(false));
      if (profiler && round === rounds - 1) await profiler.start();
      beside.push(await measure(true));
    }
    if (profiler) {
      printSummary("Beside the noisy tenant", summarize(await profiler.stop()));
      // The server waits for it before it ends.
      profiler[Symbol.dispose]();
    }
    await server.stop();
    return resultOf(alone, beside, { seconds, rounds });
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

function resultOf(
  alone: readonly Round[],
  beside: readonly Round[],
  run: { readonly seconds: number; readonly rounds: number },
): BenchResult {
  const refusedCalm = sum([...alone, ...beside].map(({ calm }) => calm.refused));
  if (refusedCalm > 0) throw new Error(`${refusedCalm} calls within the limit were refused`);
  const rows = Object.entries({ alone, beside }).map(([name, list]) => {
    // One quantile of all rounds: a round has too few calls for its own.
    const times = list.flatMap(({ calm }) => calm.times);
    return {
      name,
      calls: times.length,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
      p99OfRounds: spreadOf(list.map(({ calm }) => quantile(calm.times, 0.99))),
      serverCpu: sum(list.map(({ serverCpu }) => serverCpu)) / run.rounds / run.seconds,
      postgresCpu: sum(list.map(({ postgresCpu }) => postgresCpu)) / run.rounds / run.seconds,
    };
  });
  const [own, others] = rows;
  const sent = sum(beside.map(({ noisy }) => noisy?.times.length ?? 0));
  const refused = sum(beside.map(({ noisy }) => noisy?.refused ?? 0));
  const change = (others?.p99 ?? Number.NaN) / (own?.p99 ?? Number.NaN) - 1;
  const cpu = ((others?.serverCpu ?? 0) - (own?.serverCpu ?? 0)) / (sent / run.rounds / run.seconds);
  return {
    name: "noisy-neighbour",
    title: `Writes within the limit, alone and beside a tenant at 20 times its limit; ${run.rounds} rounds of ${run.seconds} s each in turns`,
    columns: ["", "calls", "p50 ms", "p99 ms", "(p99 of a round)", "server CPU s/s", "PostgreSQL CPU s/s"],
    rows: rows.map(({ name, calls, p50, p99, p99OfRounds: { min, max }, serverCpu, postgresCpu }) => [
      name,
      show(calls),
      show(p50),
      show(p99),
      `(${show(min)}–${show(max)})`,
      show(serverCpu),
      show(postgresCpu),
    ]),
    notes: [
      `The p99 moved by ${show(100 * change)} %. ${show(sent)} calls of the noisy tenant, ${show(refused)} of them refused; each cost the server ${show(1e6 * cpu)} µs.`,
    ],
    figures: { ...run, rows, change, sent, refused },
  };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

const quantile = (times: readonly number[], q: number) =>
  times.toSorted((a, b) => a - b)[Math.floor((times.length - 1) * q)] as number;

interface BenchTenant {
  readonly tenantId: string;
  readonly slug: string;
  readonly email: string;
  readonly password: string;
  readonly apiKey: string;
  readonly storeId: string;
}

/** Makes the tenants, on a server that names no platform admin: nobody may register as one. */
async function prepare(dataDir: string): Promise<{ calm: BenchTenant; noisy: BenchTenant }> {
  await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  const tenants = {
    calm: await makeTenant(server.url, "calm"),
    noisy: await makeTenant(server.url, "noisy"),
  };
  await server.stop();
  return tenants;
}

const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });

async function makeTenant(url: string, slug: string): Promise<BenchTenant> {
  using session = grpcSession(url);
  const auth = createClient(AuthService, session.transport);
  const email = `owner@${slug}.example`;
  const password = `a password for ${slug}`;
  const registered = await auth.registerTenant({ name: slug, slug, contactEmail: email });
  const { temporaryPassword } = registered;
  const { accessToken } = await auth.login({ email, password: temporaryPassword, tenantSlug: slug });
  const changed = await auth.changePassword(
    { currentPassword: temporaryPassword, newPassword: password },
    bearer(accessToken),
  );
  const scopes = [Scope.METRICS_WRITE, Scope.METRICS_ADMIN];
  const { secret: apiKey } = await auth.createApiKey({ name: "bench", scopes }, bearer(changed.accessToken));
  const metrics = createClient(MetricsService, session.transport);
  const { store } = await metrics.createStore({ name: slug }, { headers: { "x-api-key": apiKey } });
  const tenantId = registered.tenant?.id ?? "";
  return { tenantId, slug, email, password, apiKey, storeId: store?.id ?? "" };
}

/** A platform admin takes the limit off their own tenant. */
async function withoutLimit(url: string, { tenantId, slug, email, password }: BenchTenant): Promise<void> {
  using session = grpcSession(url);
  const auth = createClient(AuthService, session.transport);
  const { accessToken } = await auth.login({ email, password, tenantSlug: slug });
  await auth.updateTenant(
    { tenantId, limits: { requestsPerMinute: 0n }, updateMask: { paths: ["limits.requests_per_minute"] } },
    bearer(accessToken),
  );
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "30" },
      rounds: { type: "string", default: "3" },
      profile: { type: "boolean", default: false },
    },
  });
  const result = await noisyNeighbourBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    profile: values.profile,
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
