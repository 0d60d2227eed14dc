/** What becomes of 10,000 events when something goes wrong, with each library as it is out of the box. */
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { show } from "../report.ts";
import { type LibraryName, type LibraryOptions, libraryNames } from "./library.ts";
import { type SinkProcess, startSink, startTask } from "./processes.ts";
import type { SinkCommand, SinkCounts } from "./sink.ts";

const events = 10_000;
const burstEvents = 30_000;
/** After the sink is well again nobody is waited for any longer. */
const patienceMs = 20_000;
const pollMs = 50;

/** One scene with one library, for people. */
export interface SceneResult {
  readonly scene: string;
  readonly library: LibraryName;
  readonly delivered: number;
  readonly repeated: number;
  readonly says: string;
}

interface Stage extends AsyncDisposable {
  readonly library: LibraryName;
  readonly sink: SinkProcess;
  readonly options: LibraryOptions;
  readonly spool: string;
}

async function setStage(library: LibraryName): Promise<Stage> {
  const sink = await startSink();
  await sink.tell({ kind: "reset", distinct: true });
  const spool = await mkdtemp(path.join(os.tmpdir(), "pulsewire-sdk-scene-"));
  return {
    library,
    sink,
    spool,
    options: { url: sink.url, grpcUrl: sink.grpcUrl, gzip: false, defaults: true },
    async [Symbol.asyncDispose]() {
      await sink[Symbol.asyncDispose]();
      await rm(spool, { recursive: true, force: true });
    },
  };
}

/** Waits until so many different events have come, or the patience is over. */
async function untilThere(sink: SinkProcess, count: number, ms: number): Promise<SinkCounts> {
  const end = performance.now() + ms;
  for (;;) {
    const counts = await sink.tell({ kind: "read" });
    if (counts.distinct >= count || performance.now() > end) return counts;
    await sleep(pollMs);
  }
}

const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

function result(scene: string, { library }: Stage, counts: SinkCounts, says: string): SceneResult {
  const { distinct, events: all } = counts;
  return { scene, library, delivered: distinct, repeated: all - distinct, says };
}

/** An outage that is there from the first event on. */
async function outage(scene: string, begin: SinkCommand, end: SinkCommand, seconds: number, stage: Stage) {
  const { library, sink, options } = stage;
  await sink.tell(begin);
  await using task = startTask({ kind: "trickle", library, options, events });
  const begun = nowMs();
  await task.next();
  await sleep(Math.max(0, seconds * 1000 - (nowMs() - begun)));
  const { failed } = await sink.tell(end);
  const healed = nowMs();
  const counts = await untilThere(sink, events, patienceMs);
  const drained =
    counts.distinct > 0 ? `drained ${show((counts.lastNewMs - healed) / 1000)} s after` : "nothing came";
  const failures = begin.kind === "down" ? "" : `, ${failed} failed requests`;
  return result(scene, stage, counts, `${drained}${failures}`);
}

const up = { kind: "up" } as const;
const mode = (name: "ok" | "503" | "hang") => ({ kind: "mode", mode: name }) as const;

type Scene = (stage: Stage) => Promise<SceneResult>;

const scenes: readonly Scene[] = [
  (stage) => outage("503 for 5 s", mode("503"), mode("ok"), 5, stage),
  (stage) => outage("503 for 20 s", mode("503"), mode("ok"), 20, stage),
  (stage) => outage("down for 10 s", { kind: "down" }, up, 10, stage),
  (stage) => outage("no answer for 15 s", mode("hang"), mode("ok"), 15, stage),
  killed,
  terminated,
  (stage) => closed("close(), sink down", { kind: "down" }, stage),
  (stage) => closed("close(), sink hangs", mode("hang"), stage),
  answerLost,
  burst,
];

/** SIGKILL while the sink is away, and another process afterwards. */
async function killed(stage: Stage): Promise<SceneResult> {
  const { library, sink, spool } = stage;
  const options = { ...stage.options, ...(library === "ours" && { spool }) };
  await sink.tell({ kind: "down" });
  {
    await using task = startTask({ kind: "burst", library, options, events });
    await task.next();
  }
  await sink.tell(up);
  await using task = startTask({ kind: "burst", library, options, events: 0 });
  await task.next();
  const counts = await untilThere(sink, events, 5_000);
  return result(
    "SIGKILL, 10,000 queued",
    stage,
    counts,
    library === "ours" ? "spool" : "has nothing on disk",
  );
}

async function terminated(stage: Stage): Promise<SceneResult> {
  const { library, sink } = stage;
  const options = { ...stage.options, onSignal: true };
  await using task = startTask({ kind: "burst", library, options, events });
  await task.next();
  const start = performance.now();
  const exited = once(task.child, "exit");
  task.child.kill("SIGTERM");
  await exited;
  const took = performance.now() - start;
  const counts = await untilThere(sink, events, 500);
  const hook = library === "ours" ? "closeOnExit" : "has no hook";
  return result("SIGTERM, 10,000 queued", stage, counts, `${hook}, ended in ${show(took)} ms`);
}

async function closed(scene: string, begin: SinkCommand, stage: Stage): Promise<SceneResult> {
  const { library, sink, spool } = stage;
  const options = { ...stage.options, ...(library === "ours" && { spool }) };
  await sink.tell(begin);
  await using task = startTask({ kind: "close", library, options, events });
  const ended = await Promise.race([task.next(), sleep(patienceMs)]);
  const says = ended ? `closed in ${show(ended.closeMs / 1000)} s` : `not closed in ${patienceMs / 1000} s`;
  if (library !== "ours") return result(scene, stage, await sink.tell({ kind: "read" }), says);
  await sink.tell(begin.kind === "down" ? up : mode("ok"));
  await using next = startTask({ kind: "burst", library, options, events: 0 });
  await next.next();
  const counts = await untilThere(sink, events, 10_000);
  return result(scene, stage, counts, `${says}, the rest from the spool`);
}

async function answerLost(stage: Stage): Promise<SceneResult> {
  const { library, sink, options } = stage;
  await sink.tell({ kind: "mode", mode: "lose-answer" });
  await using task = startTask({ kind: "trickle", library, options, events });
  await task.next();
  await untilThere(sink, events, 10_000);
  await sleep(1_000);
  const ids = { ours: "the same ids", posthog: "the same uuids", segment: "the same messageIds" } as Record<
    string,
    string
  >;
  const says = `sent again with ${ids[library] ?? "no ids"}`;
  return result("answer lost", stage, await sink.tell({ kind: "read" }), says);
}

async function burst(stage: Stage): Promise<SceneResult> {
  const { library, sink, options } = stage;
  await using task = startTask({ kind: "burst", library, options, events: burstEvents });
  const { dropped } = await task.next();
  const counts = await untilThere(sink, burstEvents, patienceMs);
  const lost = burstEvents - counts.distinct;
  const says = lost === 0 ? "nothing dropped" : `${lost} lost, ${dropped ? `${dropped} told` : "silently"}`;
  return result("burst of 30,000", stage, counts, says);
}

/** All scenes, one after the other, each with all libraries at the same time. */
export async function playScenes(only?: string): Promise<SceneResult[]> {
  const results: SceneResult[] = [];
  for (const scene of scenes) {
    const played = await Promise.all(
      libraryNames
        .filter((name) => !only || name === only)
        .map(async (library) => {
          await using stage = await setStage(library);
          return await scene(stage);
        }),
    );
    results.push(...played);
    for (const each of played) console.error(Object.values(each).join("  "));
  }
  return results;
}
