/**
 * A gateway with a spool on a bad day: node test/faults/gateway-soak.ts [--seconds 20]
 *
 * The gateway's process and the real server (every second time with its PostgreSQL) are killed at random moments, the
 * line is cut, slow, or loses answers, and the spool's disk is full for a while. In the end the events that were queued
 * and those stored are compared: each that was written once is stored once, and nothing else is. Exits with 1 otherwise.
 */
import { type ChildProcess, execFileSync, fork } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { GatewayCounts } from "../../sdk/src/index.ts";
import {
  endWithThisProcess,
  readDemoKey,
  type ServerProcess,
  startServerProcess,
} from "../helpers/server-process.ts";
import { connectToDatabase } from "./database.ts";
import { chunkEvents, type GatewayNotice, soakId, soakType } from "./gateway-process.ts";
import { Line } from "./line.ts";
import { crashPostgres, postmasterOf } from "./processes.ts";

const { values } = parseArgs({ options: { seconds: { type: "string", default: "20" } } });
const seconds = Number(values.seconds);
/** Of the disk that is filled up. */
const diskMiB = 16;

const root = await mkdtemp(path.join(os.tmpdir(), "pulsewire-soak-"));
const [dataDir, disk] = [path.join(root, "data"), path.join(root, "disk")];
const directory = path.join(disk, "spool");
await mkdir(disk);

/** A small disk of its own; false where this machine lets nobody mount one. */
function mountDisk(): boolean {
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskMiB}m`, "tmpfs", disk], { stdio: "ignore" });
    return true;
  } catch {
    console.log("no disk can be mounted here: the full disk is left out");
    return false;
  }
}

/** Numbers of events: those that must be stored, and those of which a kill leaves it open. */
const taken: [from: number, to: number][] = [];
const open: [from: number, to: number][] = [];
const done: Record<string, number> = {};
let gateway: ChildProcess | undefined;
let first = 1;
let [attempted, safe] = [0, 0];
let server: ServerProcess | undefined;
let serverKills = 0;

async function startServer(): Promise<void> {
  server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
  line.target = server.url;
}

function startGateway(): void {
  const child = fork(path.join(import.meta.dirname, "gateway-process.ts"), {
    execArgv: ["--conditions=pulsewire-source"],
  });
  gateway = child;
  endWithThisProcess(child);
  attempted = first - 1;
  safe = first - 1;
  child.on("message", (notice: GatewayNotice) => {
    if (notice.kind === "attempted") attempted = notice.upTo;
    if (notice.kind === "taken") safe = notice.upTo;
  });
  child.send({ endpoint, apiKey: readDemoKey(dataDir), directory, first });
}

/** The gateway is no more: what it had taken must be stored, what came after may be. */
function settleAccounts(): void {
  taken.push([first, safe]);
  // The last word may not have got out.
  const last = attempted + chunkEvents;
  if (last > safe) open.push([safe + 1, last]);
  first = last + 1;
}

async function killGateway(): Promise<void> {
  if (!gateway || gateway.exitCode !== null) return;
  const exited = once(gateway, "exit");
  gateway.kill("SIGKILL");
  await exited;
}

/** Lets it deliver everything. */
async function stopGateway(): Promise<GatewayCounts> {
  const { promise, resolve, reject } = Promise.withResolvers<GatewayCounts>();
  gateway?.on("message", (notice: GatewayNotice) => {
    if (notice.kind === "closed") resolve(notice.counts);
  });
  gateway?.once("exit", (code) => reject(new Error(`the gateway ended with ${code}`)));
  gateway?.send("stop");
  return promise;
}

const faults: Record<string, () => Promise<void>> = {
  "gateway killed": async () => {
    await killGateway();
    settleAccounts();
    startGateway();
  },
  "server killed": async () => {
    const postmaster = postmasterOf(dataDir);
    if (++serverKills % 2 === 0) crashPostgres(postmaster);
    await server?.kill();
    await startServer();
  },
  "line cut": async () => line.cut(),
  "line slow": async () => {
    line.slowMs = 5 + Math.random() * 60;
    await sleep(2_000);
    line.slowMs = 0;
  },
  "answers lost": async () => {
    line.losing = true;
    await sleep(500);
    line.cut();
    line.losing = false;
  },
};

async function fillDisk(): Promise<void> {
  const filler = path.join(disk, "filler");
  // More than there is room for: what fits is written.
  await writeFile(filler, Buffer.alloc(diskMiB * 2 ** 20)).catch(() => {});
  await sleep(1_000 + Math.random() * 1_500);
  await rm(filler, { force: true });
}

async function storedNumbers(): Promise<number[]> {
  await using database = await connectToDatabase(dataDir);
  const { rows } = await database.query<{ event_id: string }>(
    "SELECT event_id FROM events WHERE event_type = $1",
    [soakType],
  );
  return rows.map(({ event_id }) => Number(event_id.slice(soakId(0).length - 1)));
}

await using line = new Line();
const mounted = mountDisk();
if (mounted) faults["disk full"] = fillDisk;
const endpoint = await line.start();
try {
  await startServer();
  startGateway();
  const until = performance.now() + seconds * 1000;
  for (let bag: string[] = []; performance.now() < until; ) {
    if (bag.length === 0) bag = Object.keys(faults).sort(() => Math.random() - 0.5);
    const name = bag.pop() as string;
    await sleep(200 + Math.random() * 1_300);
    await faults[name]?.();
    done[name] = (done[name] ?? 0) + 1;
  }
  console.log(`the last gateway's counts: ${JSON.stringify((await stopGateway()).events)}`);
  safe = attempted;
  taken.push([first, safe]);
  conclude(await storedNumbers());
  await server?.stop();
} finally {
  await killGateway();
  await server?.kill();
  if (mounted) execFileSync("umount", ["-l", disk]);
  await rm(root, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}

function conclude(stored: number[]): void {
  const numbers = (ranges: [number, number][]) =>
    ranges.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, index) => from + index));
  const [must, may, there] = [numbers(taken), new Set(numbers(open)), new Set(stored)];
  const mustSet = new Set(must);
  const missing = must.filter((number) => !there.has(number));
  const strange = stored.filter((number) => !mustSet.has(number) && !may.has(number));
  const doubled = stored.length - there.size;
  const undecided = [...may].filter((number) => there.has(number)).length;
  console.log(
    `gateway-soak: ${seconds} s, ${Object.entries(done)
      .map(([name, count]) => `${name} ${count}`)
      .join(", ")}\n` +
      `events written ${must.length}, stored ${stored.length}; at the moment of a kill ${may.size}, of these stored ` +
      `${undecided}; missing ${missing.length}, doubled ${doubled}, strange ${strange.length}`,
  );
  if (missing.length + doubled + strange.length > 0) {
    console.log("missing", missing.slice(0, 20), "strange", strange.slice(0, 20));
    process.exitCode = 1;
  }
}
