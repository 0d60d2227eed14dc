/**
 * What a tenant at 20 times its limit does to another's writes: node test/bench/noisy-neighbour.ts [--seconds n] [--rounds n] [--json file]
 *
 * Both may send so many calls a minute. One sends at four fifths of that rate, the other at 20 times it, in every second round. Calls are sent at
 * their time, whether earlier ones are answered or not.
 */
import { mkdtemp, rm } from "node:fs/promises";
import type { ClientHttp2Session } from "node:http2";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createClient } from "@connectrpc/connect";
import { AuthService } from "../../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { MetricsService } from "../../server/src/gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { Scope } from "../../server/src/gen/pulsewire/options/v1/access_pb.js";
import { grpcSession } from "../helpers/server.ts";
import { startServerProcess } from "../helpers/server-process.ts";
import { grpcHeaders, openSessions, unary } from "./grpc-calls.ts";
import { type BenchResult, printResult, show, spreadOf, writeReport } from "./report.ts";
import { asPulsewire, batchOf } from "./sample-payloads.ts";

const callsPerMinute = 1_200;
const calmPerSecond = (0.8 * callsPerMinute) / 60;
const noisyPerSecond = (20 * callsPerMinute) / 60;
/** Series of a batch, of 50 samples each. */
const seriesOfCall = 4;
const bodiesOfTenant = 50;
const noisyConnections = 8;
const resourceExhausted = 8;

interface Tenant {
  readonly apiKey: string;
  readonly storeId: string;
}

export async function noisyNeighbourBench({
  seconds,
  rounds,
}: {
  seconds: number;
  rounds: number;
}): Promise<BenchResult> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-bench-"));
  try {
    await using server = await startServerProcess({
      PULSEWIRE_DATA_DIR: dataDir,
      PULSEWIRE_TENANT_LIMITS: `requests_per_minute=${callsPerMinute}`,
    });
    const [calm, noisy] = [await makeTenant(server.url, "calm"), await makeTenant(server.url, "noisy")];
    const own = await openSessions(server.url, 1);
    const others = await openSessions(server.url, noisyConnections);
    const measured = { alone: [] as Sent[], beside: [] as Sent[] };
    let loud: Sent[] = [];
    for (let round = 0; round < 2 * rounds; round++) {
      const noise = round % 2 === 1;
      const running = [send(own, calm, calmPerSecond, seconds)];
      if (noise) running.push(send(others, noisy, noisyPerSecond, seconds));
      const [ofCalm, ofNoisy] = await Promise.all(running);
      measured[noise ? "beside" : "alone"].push(ofCalm as Sent);
      if (ofNoisy) loud = [...loud, ofNoisy];
    }
    for (const session of [...own, ...others]) session.close();
    await server.stop();
    const refusedCalm = [...measured.alone, ...measured.beside].reduce(
      (sum, { refused }) => sum + refused,
      0,
    );
    if (refusedCalm > 0) throw new Error(`${refusedCalm} calls within the limit were refused`);
    const p99 = (list: readonly Sent[]) => spreadOf(list.map(({ times }) => quantile(times, 0.99)));
    const p50 = (list: readonly Sent[]) => spreadOf(list.map(({ times }) => quantile(times, 0.5)));
    const rows = (["alone", "beside"] as const).map((name) => ({
      name,
      p50: p50(measured[name]),
      p99: p99(measured[name]),
    }));
    const refused = loud.reduce((sum, of) => sum + of.refused, 0);
    const sent = loud.reduce((sum, of) => sum + of.times.length, 0);
    const change = (rows[1]?.p99.median ?? 0) / (rows[0]?.p99.median ?? 1) - 1;
    return {
      name: "noisy-neighbour",
      title: `Writes within the limit, alone and beside a tenant at 20 times its limit; ${rounds} rounds of ${seconds} s each in turns`,
      columns: ["", "p50 ms", "p99 ms", "(least–most)"],
      rows: rows.map(({ name, p50, p99 }) => [
        name,
        show(p50.median),
        show(p99.median),
        `(${show(p99.min)}–${show(p99.max)})`,
      ]),
      notes: [
        `The p99 moved by ${show(100 * change)} %. ${show(sent)} calls of the noisy tenant, ${show(refused)} of them refused.`,
      ],
      figures: { rows, change, sent, refused, seconds, rounds },
    };
  } finally {
    await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
  }
}

interface Sent {
  /** How long each call took, milliseconds. */
  readonly times: number[];
  readonly refused: number;
}

async function send(
  sessions: readonly ClientHttp2Session[],
  { apiKey, storeId }: Tenant,
  perSecond: number,
  seconds: number,
): Promise<Sent> {
  const { writeSamples } = MetricsService.method;
  const headers = { ...grpcHeaders(`/${MetricsService.typeName}/${writeSamples.name}`), "x-api-key": apiKey };
  const startMs = Date.now() - 86_400_000;
  // Made beforehand, so that making them keeps no answer waiting.
  const bodies = Array.from({ length: bodiesOfTenant }, (_, round) =>
    asPulsewire(batchOf("gateway", 0, round, startMs).slice(0, seriesOfCall), storeId),
  );
  const times: number[] = [];
  let refused = 0;
  const call = async () => {
    const body = bodies[times.length % bodies.length] as Buffer;
    const session = sessions[times.length % sessions.length] as ClientHttp2Session;
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
    for (; sent < Math.min(due, perSecond * seconds); sent++) calls.push(call());
    await sleep(2);
  }
  await Promise.all(calls);
  return { times, refused };
}

const quantile = (times: readonly number[], q: number) =>
  times.toSorted((a, b) => a - b)[Math.floor((times.length - 1) * q)] as number;

async function makeTenant(url: string, slug: string): Promise<Tenant> {
  using session = grpcSession(url);
  const auth = createClient(AuthService, session.transport);
  const email = `owner@${slug}.example`;
  const newPassword = `a password for ${slug}`;
  const { temporaryPassword } = await auth.registerTenant({ name: slug, slug, contactEmail: email });
  const { accessToken } = await auth.login({ email, password: temporaryPassword, tenantSlug: slug });
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } });
  const changed = await auth.changePassword(
    { currentPassword: temporaryPassword, newPassword },
    bearer(accessToken),
  );
  const scopes = [Scope.METRICS_WRITE, Scope.METRICS_ADMIN];
  const { secret } = await auth.createApiKey({ name: "bench", scopes }, bearer(changed.accessToken));
  const metrics = createClient(MetricsService, session.transport);
  const { store } = await metrics.createStore({ name: slug }, { headers: { "x-api-key": secret } });
  return { apiKey: secret, storeId: store?.id ?? "" };
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      json: { type: "string" },
      seconds: { type: "string", default: "5" },
      rounds: { type: "string", default: "5" },
    },
  });
  const result = await noisyNeighbourBench({
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
  });
  printResult(result);
  if (values.json) writeReport(values.json, [result]);
}
