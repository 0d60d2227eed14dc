/** What is measured, in a process that has loaded one library only. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep, setImmediate as turn } from "node:timers/promises";
import { benchEvent } from "./event.ts";
import { type Library, type LibraryName, type LibraryOptions, openLibrary } from "./library.ts";

export interface TaskCommand {
  /**
   * Delivers all and measures; queues all and measures; queues 5,000 a second, or all in one loop; queues all and closes.
   */
  readonly kind: "deliver" | "backlog" | "trickle" | "burst" | "close";
  readonly library: LibraryName;
  readonly options: LibraryOptions;
  readonly events: number;
}

export interface TaskResult {
  /** Where it began, on the machine's monotonic clock in milliseconds. */
  readonly startMs: number;
  /** Microseconds in the library for each event, over all blocks of 100 calls. */
  readonly enqueueUs: number;
  /** The 99th percentile of the blocks, for each event. */
  readonly blockP99Us: number;
  /** The median of the first and of the last fifth of the blocks, for each event. */
  readonly earlyUs: number;
  readonly lateUs: number;
  readonly cpuSeconds: number;
  /** The longest time that the event loop did not turn. */
  readonly stallMs: number;
  readonly peakBytes: number;
  /** Bytes for each queued event, as the garbage collector counts them. */
  readonly eventBytes: number;
  readonly closeMs: number;
  /** Drops that the program is told of. */
  readonly dropped: number | undefined;
}

const blockCalls = 100;

/** Calls in blocks, a turn of the event loop between two, and what each block took in microseconds for each event. */
async function addAll(library: Library, from: number, to: number): Promise<number[]> {
  const blocks: number[] = [];
  for (let index = from; index < to; index += blockCalls) {
    const events = Array.from({ length: blockCalls }, (_, offset) => benchEvent(index + offset));
    const full: Promise<void>[] = [];
    const start = performance.now();
    for (const event of events) {
      const room = library.add(event);
      if (room) full.push(room);
    }
    blocks.push(((performance.now() - start) * 1000) / blockCalls);
    if (full.length > 0) await Promise.all(full);
    await turn();
  }
  return blocks;
}

const at = (sorted: readonly number[], part: number) => sorted[Math.floor((sorted.length - 1) * part)] ?? 0;
const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const sort = (values: readonly number[]) => values.toSorted((a, b) => a - b);
const memory = () => {
  global.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

async function run({ kind, library: name, options, events }: TaskCommand): Promise<TaskResult> {
  const library = await openLibrary(name, options);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let blocks: number[] = [];
  let eventBytes = Number.NaN;
  if (kind === "deliver") {
    const warmUp = Math.min(20_000, events);
    await addAll(library, events, events + warmUp);
    await library.flush();
    global.gc?.();
    await sleep(50);
  }
  const before = kind === "backlog" ? memory() : 0;
  const cpu = process.cpuUsage();
  const startMs = Number(process.hrtime.bigint()) / 1e6;
  if (kind === "deliver") delay.enable();
  switch (kind) {
    case "deliver":
      blocks = await addAll(library, 0, events);
      await library.flush();
      break;
    case "backlog":
      blocks = await addAll(library, 0, events);
      eventBytes = (memory() - before) / events;
      break;
    case "trickle":
      // 5,000 a second.
      for (let index = 0; index < events; index += 50) {
        for (let offset = 0; offset < 50; offset++) library.add(benchEvent(index + offset));
        await sleep(10);
      }
      break;
    case "burst":
    case "close":
      for (let index = 0; index < events; index++) library.add(benchEvent(index));
      break;
  }
  delay.disable();
  const closing = performance.now();
  if (kind === "close") await library.close();
  const used = process.cpuUsage(cpu);
  const sorted = sort(blocks);
  const fifth = Math.floor(blocks.length / 5);
  return {
    startMs,
    enqueueUs: mean(blocks),
    blockP99Us: at(sorted, 0.99),
    earlyUs: at(sort(blocks.slice(0, fifth)), 0.5),
    lateUs: at(sort(blocks.slice(-fifth)), 0.5),
    cpuSeconds: (used.user + used.system) / 1e6,
    stallMs: delay.max / 1e6,
    peakBytes: process.resourceUsage().maxRSS * 1024,
    eventBytes,
    closeMs: performance.now() - closing,
    dropped: library.dropped?.(),
  };
}

process.once("message", (command: TaskCommand) => {
  void run(command).then((result) => process.send?.(result));
});
process.once("disconnect", () => process.exit());
// A program that goes on, such as a server.
setInterval(() => {}, 60_000);
