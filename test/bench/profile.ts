import type { Profiler } from "node:inspector";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(import.meta.dirname, "../..");

/** Options of Node for a process that can be profiled. */
export const profilableOptions = ["--inspect=127.0.0.1:0"];

/** Takes CPU profiles of a process that was started with `profilableOptions`. */
export interface RemoteProfiler extends Disposable {
  start(): Promise<void>;
  stop(): Promise<Profiler.Profile>;
}

/** Finds the inspector in what the process wrote to stderr. */
export async function connectProfiler(notices: readonly string[]): Promise<RemoteProfiler> {
  const url = notices.map((line) => /^Debugger listening on (ws:\S+)/.exec(line)?.[1]).find(Boolean);
  if (!url) throw new Error("the process has no inspector");
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  const pending = new Map<number, PromiseWithResolvers<unknown>>();
  let lastId = 0;
  socket.onmessage = ({ data }) => {
    const { id, result, error } = JSON.parse(String(data));
    if (error) pending.get(id)?.reject(new Error(error.message));
    else pending.get(id)?.resolve(result);
  };
  const call = <T>(method: string, params = {}): Promise<T> => {
    const answer = Promise.withResolvers<unknown>();
    pending.set(++lastId, answer);
    socket.send(JSON.stringify({ id: lastId, method, params }));
    return answer.promise as Promise<T>;
  };
  await call("Profiler.enable");
  await call("Profiler.setSamplingInterval", { interval: 500 });
  return {
    async start() {
      await call("Profiler.start");
    },
    stop: async () => (await call<{ profile: Profiler.Profile }>("Profiler.stop")).profile,
    [Symbol.dispose]: () => socket.close(),
  };
}

/** Shares of the time that the process was busy. */
export interface ProfileSummary {
  /** Busy share of the whole time: 1 is a core. */
  readonly busy: number;
  /** By package or folder. */
  readonly groups: readonly Share[];
  /** By function, own time only. */
  readonly functions: readonly Share[];
}

export interface Share {
  readonly name: string;
  readonly share: number;
}

const pauses = new Set(["(idle)", "(root)"]);

/** Adds up the own time of each function and of the packages they belong to. */
export function summarize(profile: Profiler.Profile, top = 25): ProfileSummary {
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const byFunction = new Map<string, number>();
  const byGroup = new Map<string, number>();
  let busy = 0;
  let all = 0;
  profile.samples?.forEach((id, index) => {
    const frame = frames.get(id);
    const time = profile.timeDeltas?.[index] ?? 0;
    all += time;
    if (!frame || pauses.has(frame.functionName)) return;
    busy += time;
    const place = placeOf(frame.url);
    const line = place && `:${frame.lineNumber + 1}`;
    add(byFunction, `${frame.functionName || "(anonymous)"}${place && ` ${place}${line}`}`, time);
    add(byGroup, frame.url ? groupOf(place) : groupOfBuiltIn(frame.functionName), time);
  });
  const shares = (times: Map<string, number>, count: number): Share[] =>
    [...times]
      .map(([name, time]) => ({ name, share: time / busy }))
      .sort((a, b) => b.share - a.share)
      .slice(0, count);
  return { busy: busy / all, groups: shares(byGroup, 15), functions: shares(byFunction, top) };
}

function add(times: Map<string, number>, name: string, time: number): void {
  times.set(name, (times.get(name) ?? 0) + time);
}

/** A short path: from the root of the repository, or from `node_modules`. */
function placeOf(url: string): string {
  const file = url.startsWith("file:") ? path.relative(root, fileURLToPath(url)) : url;
  return file.replace(/^.*node_modules\//, "");
}

const groupOfBuiltIn = (name: string) => (name === "(garbage collector)" ? name : "(native code)");

/** The package of a library, the folder of our own sources. */
function groupOf(place: string): string {
  if (place.startsWith("node:")) return place.split("/").slice(0, 3).join("/");
  const parts = place.split("/");
  if (parts[0] === "server") return parts.slice(0, 3).join("/");
  return parts.slice(0, place.startsWith("@") ? 2 : 1).join("/");
}

export function printSummary(title: string, { busy, groups, functions }: ProfileSummary): void {
  console.log(`\n${title}: JavaScript thread busy ${Math.round(busy * 100)} %; shares of that\n`);
  for (const list of [groups, functions]) {
    for (const { name, share } of list) console.log(`${(share * 100).toFixed(1).padStart(6)} %  ${name}`);
    console.log("");
  }
}
