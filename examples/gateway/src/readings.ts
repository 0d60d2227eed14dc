import { statfs } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { readCpuTimes, readDiskBytes, readMemory, readNetworkBytes } from "./machine.ts";

/** One figure of this machine. */
export interface Reading {
  name: string;
  value: number;
  unit: string;
  labels?: Record<string, string>;
}

/** What is counted up since the machine started, at one moment. */
interface Counters {
  /** Milliseconds, monotonic. */
  at: number;
  cpus: Map<string, { busy: number; total: number }>;
  /** Bytes read and written, by device. */
  disks: Map<string, [number, number]>;
  /** Bytes received and sent, by interface. */
  networks: Map<string, [number, number]>;
}

/** Reads this machine. Rates are those since the reading before, so the first one has none. */
export class Machine {
  #last: Counters | undefined;

  /** The figures of now. */
  async read(): Promise<Reading[]> {
    const now = await readCounters();
    const readings = this.#last ? rates(this.#last, now) : [];
    this.#last = now;
    const { total, available } = await readMemory();
    const disk = await statfs(path.parse(process.cwd()).root);
    const [load = 0] = os.loadavg();
    readings.push(
      { name: "memory_usage", value: 100 * (1 - available / total), unit: "percent" },
      { name: "memory_used", value: total - available, unit: "bytes" },
      { name: "disk_usage", value: 100 * (1 - disk.bavail / disk.blocks), unit: "percent" },
      { name: "load_1m", value: load, unit: "1" },
    );
    if (now.networks.size === 0) {
      const addresses = Object.values(os.networkInterfaces()).flat().length;
      readings.push({ name: "network_addresses", value: addresses, unit: "1" });
    }
    return readings;
  }
}

async function readCounters(): Promise<Counters> {
  const [cpus, disks, networks] = await Promise.all([readCpuTimes(), readDiskBytes(), readNetworkBytes()]);
  return { at: performance.now(), cpus, disks, networks };
}

function rates(before: Counters, now: Counters): Reading[] {
  const readings: Reading[] = [];
  for (const [cpu, { busy, total }] of now.cpus) {
    const last = before.cpus.get(cpu);
    if (!last || total <= last.total) continue;
    const value = (100 * (busy - last.busy)) / (total - last.total);
    readings.push({
      name: "cpu_usage",
      value: Math.min(100, Math.max(0, value)),
      unit: "percent",
      labels: { cpu },
    });
  }
  const seconds = (now.at - before.at) / 1000;
  const perSecond = (
    label: string,
    names: [string, string],
    all: Map<string, [number, number]>,
    last: Map<string, [number, number]>,
  ) => {
    for (const [device, bytes] of all) {
      const old = last.get(device);
      if (!old) continue;
      for (const index of [0, 1] as const) {
        const value = Math.max(0, bytes[index] - old[index]) / seconds;
        readings.push({ name: names[index], value, unit: "bytes/s", labels: { [label]: device } });
      }
    }
  };
  perSecond("device", ["disk_read", "disk_written"], now.disks, before.disks);
  perSecond("interface", ["network_received", "network_sent"], now.networks, before.networks);
  return readings;
}
