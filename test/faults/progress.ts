/**
 * SIGKILL in the middle of reporting progress: node test/faults/progress.ts [--rounds 20]
 *
 * Each round loads the real server with reports on a few files, kills it at a random moment (every second time together with
 * its whole PostgreSQL), starts it again on the same folder and checks that nothing acknowledged is lost and nothing counted
 * twice. Exits with 1 when the counts of a file are not what they must be.
 */
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { ReportResult } from "../../sdk/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../../sdk/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { readDemoKey, type ServerProcess, startServerProcess } from "../helpers/server-process.ts";
import { connectToDatabase } from "./database.ts";
import { crashPostgres, postmasterOf } from "./processes.ts";

const minLoadMs = 200;
const maxLoadMs = 1_000;
const callers = 24;
const clientKrn = "krn:demo:client:faults";

type Progress = Client<typeof ProgressService>;

/** A report that was sent. Without an id a lost answer leaves it open whether it counted. */
interface Sent {
  readonly filename: string;
  readonly updateId: string;
  readonly done: number;
  answered: boolean;
}

const { values } = parseArgs({ options: { rounds: { type: "string", default: "20" } } });
const rounds = Number(values.rounds);
const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-progress-"));
const violations: string[] = [];
let reports = 0;
let server: ServerProcess | undefined;
try {
  server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  for (let round = 1; round <= rounds; round++) server = await runRound(round, server);
  await server.stop();
} finally {
  await server?.kill();
  await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
for (const violation of violations.slice(0, 10)) console.error(`violation: ${violation}`);
const verdict = violations.length > 0 ? `${violations.length} violations` : "each counted exactly once";
console.log(`progress: ${rounds} rounds, ${reports} reports, ${verdict}`);
if (violations.length > 0 || reports === 0) process.exitCode = 1;

function open(url: string): { progress: Progress } & Disposable {
  const sessionManager = new Http2SessionManager(url);
  const apiKey = readDemoKey(dataDir);
  const transport = createGrpcTransport({
    baseUrl: url,
    sessionManager,
    interceptors: [
      (next) => (req) => {
        req.header.set("x-api-key", apiKey);
        return next(req);
      },
    ],
  });
  return {
    progress: createClient(ProgressService, transport),
    [Symbol.dispose]: () => sessionManager.abort(),
  };
}

async function runRound(round: number, running: ServerProcess): Promise<ServerProcess> {
  const files = ["hot", "1", "2"].map((name) => `${round}-${name}.csv`);
  const sent: Sent[] = [];
  const withDatabase = round % 2 === 0;
  await loadAndKill(running, withDatabase, files, sent);
  const unknown = sent.filter(({ answered }) => !answered);
  const restarted = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  try {
    using client = open(restarted.url);
    let committed = 0;
    // What has an id is sent again, everything that was acknowledged a second time, too.
    for (const report of sent.filter(({ updateId }) => updateId)) {
      if (report.answered && Math.random() < 0.8) continue;
      const { result } = await send(client.progress, report);
      if (report.answered && result !== ReportResult.DUPLICATE) {
        violations.push(`${report.updateId} was acknowledged, and counted when it was sent again`);
      }
      if (!report.answered && result === ReportResult.DUPLICATE) committed++;
    }
    for (const filename of files) await verify(client.progress, filename, sent);
    await verifyFeed();
    reports += sent.length;
    console.log(
      `round ${String(round).padStart(2)}  killed ${withDatabase ? "server and database" : "server             "}` +
        `  acknowledged ${String(sent.length - unknown.length).padStart(6)}  unknown ${String(unknown.length).padStart(3)}` +
        `  of these committed ${String(committed).padStart(3)}  restart ${Math.round(restarted.startedInMs)} ms` +
        (violations.length > 0 ? `  VIOLATIONS ${violations.length}` : ""),
    );
    return restarted;
  } catch (error) {
    await restarted.kill();
    throw error;
  }
}

async function loadAndKill(
  running: ServerProcess,
  withDatabase: boolean,
  files: readonly string[],
  sent: Sent[],
): Promise<void> {
  using client = open(running.url);
  const postmaster = postmasterOf(dataDir);
  let killed = false;
  const load = Array.from({ length: callers }, async (_, caller) => {
    while (!killed) {
      const report: Sent = {
        filename: files[Math.random() < 0.6 ? 0 : Math.floor(Math.random() * files.length)] as string,
        updateId: caller % 2 ? randomUUID() : "",
        done: 1 + Math.floor(Math.random() * 9),
        answered: false,
      };
      sent.push(report);
      try {
        await send(client.progress, report);
        report.answered = true;
      } catch (error) {
        if (!killed)
          violations.push(`a call failed before the server was killed: ${ConnectError.from(error).message}`);
        await sleep(20);
      }
    }
  });
  // Something must be under way, however busy the machine is.
  while (sent.filter(({ answered }) => answered).length < callers) await sleep(20);
  await sleep(minLoadMs + Math.random() * (maxLoadMs - minLoadMs));
  killed = true;
  if (withDatabase) crashPostgres(postmaster);
  await running.kill();
  await Promise.all(load);
}

function send(progress: Progress, { filename, updateId, done }: Sent) {
  return progress.reportProgress({ clientKrn, filename, updateId, counts: { done: BigInt(done) } });
}

async function verify(progress: Progress, filename: string, sent: readonly Sent[]): Promise<void> {
  const own = sent.filter((report) => report.filename === filename);
  if (own.length === 0) return;
  const sum = (some: readonly Sent[]) => some.reduce((total, { done }) => total + done, 0);
  const certain = own.filter(({ answered, updateId }) => answered || updateId);
  const open = own.filter(({ answered, updateId }) => !answered && !updateId);
  const { progress: file } = await progress.getProgress({ clientKrn, filename });
  const done = Number(file?.counts?.done ?? 0n);
  if (done < sum(certain)) violations.push(`${filename} has ${done} of ${sum(certain)}: something is lost`);
  if (done > sum(certain) + sum(open))
    violations.push(`${filename} has ${done} of ${sum(own)}: something counted twice`);
}

/** Every change of every file is in the feed, in order, and the last one is the file as it is. */
async function verifyFeed(): Promise<void> {
  await using database = await connectToDatabase(dataDir);
  const { rows } = await database.query<{ wrong: number }>(
    `with numbered as (
       select f.filename, f.version as last, d.version, d.done, f.done as file_done,
         row_number() over (partition by d.file_id order by d.sequence) as place
       from progress_files f join progress_deltas d on d.tenant_id = f.tenant_id and d.file_id = f.id
     ) select count(*)::int as wrong from numbered
       where version <> place or (version = last and done <> file_done)`,
  );
  if (rows[0]?.wrong !== 0) violations.push(`${rows[0]?.wrong} changes of the feed are out of order`);
  const gaps = await database.query<{ gaps: string }>(
    `select f.sequence - count(d.sequence) as gaps from progress_feeds f left join progress_deltas d using (tenant_id)
     group by f.tenant_id, f.sequence having f.sequence <> count(d.sequence)`,
  );
  if (gaps.rows.length > 0) violations.push(`the feed misses ${gaps.rows[0]?.gaps} changes`);
}
