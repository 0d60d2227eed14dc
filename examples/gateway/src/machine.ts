import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import os from "node:os";

/** Counters of more devices or interfaces than this are left out: hosts of containers have hundreds. */
const mostDevices = 8;

/** Busy and total time of all cores together ("all") and of each. The unit does not matter: only ratios are used. */
export async function readCpuTimes(): Promise<Map<string, { busy: number; total: number }>> {
  const stat = await readText("/proc/stat");
  const cpus = new Map<string, { busy: number; total: number }>();
  for (const [, core, text = ""] of stat.matchAll(/^cpu(\d*) +(.*)$/gm)) {
    const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] =
      numbers(text);
    const busy = user + nice + system + irq + softirq + steal;
    cpus.set(core || "all", { busy, total: busy + idle + iowait });
  }
  return cpus.size > 0 ? cpus : cpuTimesOfNode();
}

function cpuTimesOfNode(): Map<string, { busy: number; total: number }> {
  const all = { busy: 0, total: 0 };
  const cpus = new Map([["all", all]]);
  for (const [core, { times }] of os.cpus().entries()) {
    const busy = times.user + times.nice + times.sys + times.irq;
    cpus.set(String(core), { busy, total: busy + times.idle });
    all.busy += busy;
    all.total += busy + times.idle;
  }
  return cpus;
}

/** Memory in bytes. */
export async function readMemory(): Promise<{ total: number; available: number }> {
  const info = await readText("/proc/meminfo");
  const kib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(info)?.[1]);
  const [total, available] = [kib("MemTotal") * 1024, kib("MemAvailable") * 1024];
  return total > 0 && available >= 0
    ? { total, available }
    : { total: os.totalmem(), available: os.freemem() };
}

/** Bytes read and written by each disk since the start; empty where the system does not tell. */
export async function readDiskBytes(): Promise<Map<string, [number, number]>> {
  const disks = new Map<string, [number, number]>();
  for (const line of (await readText("/proc/diskstats")).split("\n")) {
    const [, , name = "", , , read, , , , written] = line.trim().split(/\s+/);
    // Only whole disks are in /sys/block; a sector of these files has 512 bytes, whatever the disk says.
    if (
      !/^(loop|ram|zram)/.test(name) &&
      name &&
      disks.size < mostDevices &&
      existsSync(`/sys/block/${name}`)
    ) {
      disks.set(name, [Number(read) * 512, Number(written) * 512]);
    }
  }
  return disks;
}

/** Bytes received and sent by each network interface since the start; empty where the system does not tell. */
export async function readNetworkBytes(): Promise<Map<string, [number, number]>> {
  const networks = new Map<string, [number, number]>();
  for (const [, name = "", text = ""] of (await readText("/proc/net/dev")).matchAll(/^ *(\S+): *(.*)$/gm)) {
    const fields = numbers(text);
    if (networks.size < mostDevices) networks.set(name, [fields[0] ?? 0, fields[8] ?? 0]);
  }
  return networks;
}

const numbers = (text: string) => text.trim().split(/\s+/).map(Number);

/** Empty where there is no such file, as on macOS. */
const readText = (file: string) => readFile(file, "utf8").catch(() => "");
