/**
 * Delivers what is in a spool, and tells where the memory of its process is. It runs as JavaScript: Node's support for
 * TypeScript would be a third of that memory.
 */
import { readFileSync } from "node:fs";
import { getHeapSpaceStatistics } from "node:v8";
import type * as Sdk from "../../../sdk/src/index.ts";

/** Bytes of a process. */
export interface Memory {
  /** All that is in memory: the sum of the parts below. */
  readonly rss: number;
  /** Of files: Node itself and libraries. */
  readonly program: number;
  /** V8's young generation, which it makes larger the more of it survives. */
  readonly young: number;
  /** The rest of V8's heap. */
  readonly old: number;
  /** What C++ has of malloc(), such as buffers. */
  readonly malloc: number;
  /** Large buffers, stacks, and what else has a mapping of its own. */
  readonly other: number;
  /** What JavaScript uses, in V8's heap and beside it. */
  readonly used: number;
}

export interface Drained {
  readonly bare: Memory;
  readonly loaded: Memory;
  readonly started: Memory;
  /** When most was in memory; `rss` and `used` are the most of each. */
  readonly peak: Memory;
  readonly openMs: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly delivered: number;
}

const pollMs = 20;
/** Looking closely makes garbage: only at what is more by so much. */
const step = 4 * 2 ** 20;
/** Mappings that malloc() makes for threads begin at multiples of this. */
const arenaBytes = 64 * 2 ** 20;

function look(): Memory {
  let [program, malloc, anonymous] = [0, 0, 0];
  let add = (_bytes: number) => {};
  for (const line of readFileSync("/proc/self/smaps", "latin1").split("\n")) {
    const mapping = /^([0-9a-f]+)-\S+ \S+ \S+ \S+ (\d+) *(.*)$/.exec(line);
    if (mapping) {
      const [, start = "", inode, name] = mapping;
      const isMalloc = name === "[heap]" || (name === "" && Number.parseInt(start, 16) % arenaBytes === 0);
      add = (bytes) => {
        if (isMalloc) malloc += bytes;
        else if (inode === "0") anonymous += bytes;
        else program += bytes;
      };
    } else if (line.startsWith("Rss:")) add(Number.parseInt(line.slice(4), 10) * 1024);
  }
  let [young, old] = [0, 0];
  for (const { space_name: name, physical_space_size: bytes } of getHeapSpaceStatistics()) {
    if (name.startsWith("new_")) young += bytes;
    else if (!name.startsWith("read_only")) old += bytes;
  }
  const rss = program + malloc + anonymous;
  return { rss, program, young, old, malloc, other: anonymous - young - old, used: usedBytes() };
}

function usedBytes(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const [sdk = "", endpoint = "", directory = "", maxBytes] = process.argv.slice(1);
global.gc?.();
const bare = look();
const { createGateway } = (await import(sdk)) as typeof Sdk;
global.gc?.();
const loaded = look();
const begun = performance.now();
const spool = { directory, maxBytes: Number(maxBytes), sync: "none" } as const;
const gateway = createGateway({ endpoint, apiKey: "evp_bench", spool });
const openMs = performance.now() - begun;
const started = look();
let peak = started;
let used = started.used;
setInterval(() => {
  used = Math.max(used, usedBytes());
  if (process.memoryUsage.rss() > peak.rss + step) peak = look();
}, pollMs);
const cpu = process.cpuUsage();
const { accepted: delivered } = await gateway.flush();
const { user, system } = process.cpuUsage(cpu);
const seconds = (performance.now() - begun) / 1000;
const rss = process.resourceUsage().maxRSS * 1024;
const drained: Drained = {
  bare,
  loaded,
  started,
  peak: { ...peak, rss, used },
  openMs,
  seconds,
  cpuSeconds: (user + system) / 1e6,
  delivered,
};
console.log(JSON.stringify(drained));
process.exit();
