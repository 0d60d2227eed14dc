/** InfluxDB 1.x and VictoriaMetrics as Debian has them, in a temporary folder each, on loopback. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { endWithThisProcess } from "../helpers/server-process.ts";

export interface Peer extends AsyncDisposable {
  readonly pid: number;
  /** Where lines are written to. */
  readonly writeUrl: string;
  readonly url: string;
  /** Bytes of all its files, once it has put everything away. */
  settledBytes(): Promise<number>;
}

/** Caches are written to disk at once, not after minutes: it is the size on disk that is asked for. */
const influxConfig = (folder: string, port: number, rpcPort: number) => `
reporting-disabled = true
bind-address = "127.0.0.1:${rpcPort}"
[meta]
  dir = "${folder}/meta"
[data]
  dir = "${folder}/data"
  wal-dir = "${folder}/wal"
  query-log-enabled = false
  cache-snapshot-write-cold-duration = "3s"
  compact-full-write-cold-duration = "5s"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:${port}"
  log-enabled = false
`;

export async function startInflux(): Promise<Peer> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-influx-"));
  const [port, rpcPort] = [await freePort(), await freePort()];
  const config = path.join(folder, "influxdb.conf");
  await writeFile(config, influxConfig(folder, port, rpcPort));
  const url = `http://127.0.0.1:${port}`;
  const peer = await start("influxd", ["-config", config], folder, `${url}/ping`);
  await fetch(`${url}/query?q=${encodeURIComponent("create database bench")}`, { method: "POST" });
  return {
    ...peer,
    url,
    writeUrl: `${url}/write?db=bench&precision=ms`,
    settledBytes: () => steadyBytes(folder),
  };
}

export async function startVictoria(): Promise<Peer> {
  const folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-victoria-"));
  await mkdir(path.join(folder, "data"));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const options = [
    `-storageDataPath=${folder}/data`,
    `-httpListenAddr=127.0.0.1:${port}`,
    "-retentionPeriod=12",
    "-search.latencyOffset=0s",
    "-influxSkipSingleField",
  ];
  const peer = await start("victoria-metrics", options, folder, `${url}/health`);
  return {
    ...peer,
    url,
    writeUrl: `${url}/write?precision=ms`,
    async settledBytes() {
      await fetch(`${url}/internal/force_flush`);
      await fetch(`${url}/internal/force_merge`);
      return await steadyBytes(folder);
    },
  };
}

async function start(command: string, options: string[], folder: string, readyUrl: string) {
  const child = spawn(command, options, { stdio: "ignore", cwd: folder });
  endWithThisProcess(child);
  await once(child, "spawn");
  for (const end = Date.now() + 20_000; ; await sleep(50)) {
    const answer = await fetch(readyUrl).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer?.ok) break;
    if (child.exitCode !== null || Date.now() > end) throw new Error(`${command} does not start`);
  }
  return {
    pid: child.pid as number,
    async [Symbol.asyncDispose]() {
      await stop(child);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** The size of a folder once it has not changed for some seconds. */
async function steadyBytes(folder: string): Promise<number> {
  let bytes = -1;
  let steadySince = Date.now();
  for (const end = Date.now() + 40_000; Date.now() < end; await sleep(500)) {
    const now = await bytesIn(folder);
    if (now !== bytes) steadySince = Date.now();
    else if (Date.now() - steadySince > 7_000) break;
    bytes = now;
  }
  return bytes;
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    // Files come and go while it is compacting.
    bytes += await stat(path.join(entry.parentPath, entry.name)).then(
      ({ blocks }) => blocks * 512,
      () => 0,
    );
  }
  return bytes;
}
