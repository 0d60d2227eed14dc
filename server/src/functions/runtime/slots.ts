/** A runtime on top of an engine that knows single containers only: replicas, replacement one by one, warm pools. */
import type { JsonValue } from "@bufbuild/protobuf";
import {
  CannotStart,
  type ContainerSpec,
  type Found,
  type LogBatch,
  type ResultFile,
  type RunEnd,
  type Runtime,
  type Unit,
  type WantedFunction,
  type WantedRun,
} from "./runtime.ts";

/** What tells a container apart, kept in its labels. */
export interface UnitLabels {
  readonly kind: Unit["kind"];
  readonly replica: string;
  readonly slot: number;
  readonly invocationId: string | undefined;
  readonly attempt: number;
}

/** Makes and ends single containers. */
export interface Engine {
  readonly name: string;
  list(): Promise<Unit[]>;
  watch(onChange: (functionId: string | undefined) => void, signal: AbortSignal): Promise<void>;
  /** Makes sure that the image is there. Rejects with CannotStart; `wait` while it is being fetched. */
  prepare(spec: ContainerSpec): Promise<void>;
  /** Makes a container under a name, or finds the one that has it. */
  create(spec: ContainerSpec, labels: UnitLabels, name: string, run?: WantedRun): Promise<Unit>;
  /** Starts it; nothing where it was started before. */
  start(unit: Unit): Promise<Unit>;
  /** Takes its name from a container that has ended, so that another may have it. */
  releaseName(unit: Unit): Promise<void>;
  /** Makes a warm container the one of a run; undefined where it is gone or taken. Without it there are no warm pools. */
  adopt?(unit: Unit, run: WantedRun, name: string): Promise<Unit | undefined>;
  wait(unit: Unit, signal: AbortSignal): Promise<RunEnd>;
  /** Asks it to end and has it killed later; does not wait for either. */
  stop(unit: Unit): Promise<void>;
  readResult(unit: Unit): Promise<ResultFile | undefined>;
  readLog(unit: Unit, position: JsonValue | undefined, signal: AbortSignal): AsyncIterable<LogBatch>;
  remove(unit: Unit): Promise<void>;
  removeUnused?: Runtime["removeUnused"];
  close(): Promise<void>;
}

/** A replica that has run for so long counts as available. */
const settleMs = 1_000;

export function createSlotRuntime(engine: Engine, installation: string): Runtime {
  const nameOf = (functionId: string, slot: number) => `pulsewire-${installation}-${functionId}-${slot}`;
  const runName = (invocationId: string, attempt: number) =>
    `pulsewire-${installation}-run-${invocationId}-${attempt}`;
  /** Failures that were counted, by unit. */
  const counted = new Set<string>();
  /** Those that were told to end: no failures. */
  const stopping = new Set<string>();
  let warmCount = 0;
  /** Warm containers as they were last seen, by function. */
  const pools = new Map<string, Unit[]>();

  const end = async (unit: Unit) => {
    if (stopping.has(unit.id)) return;
    stopping.add(unit.id);
    await engine.stop(unit).catch((error: unknown) => {
      // It may still run: the next pass tries again.
      stopping.delete(unit.id);
      throw error;
    });
  };

  const startReplica = async (wanted: WantedFunction, units: readonly Unit[]) => {
    const taken = new Set(units.filter(isLive).map(({ slot }) => slot));
    let slot = 1;
    while (taken.has(slot)) slot++;
    const dead = units.find((unit) => !isLive(unit) && unit.kind === "replica" && unit.slot === slot);
    if (dead) await engine.releaseName(dead);
    const labels = { kind: "replica", replica: `${wanted.functionName}-${slot}`, slot, attempt: 0 } as const;
    const made = await engine.create(
      wanted,
      { ...labels, invocationId: undefined },
      nameOf(wanted.functionId, slot),
    );
    return await engine.start(made);
  };

  const keepWarm = async (wanted: WantedFunction, units: readonly Unit[]) => {
    if (!engine.adopt) return;
    const warm = units.filter(({ kind }) => kind === "warm");
    const usable = warm.filter(({ template, state }) => template === wanted.template && state === "created");
    for (const unit of warm)
      if (!usable.slice(0, wanted.warmPoolSize).includes(unit)) await engine.remove(unit);
    for (let missing = wanted.warmPoolSize - usable.length; missing > 0; missing--) {
      const name = `pulsewire-${installation}-warm-${wanted.functionId}-${Date.now().toString(36)}-${++warmCount}`;
      const labels = { kind: "warm", replica: "", slot: 0, invocationId: undefined, attempt: 0 } as const;
      usable.push(await engine.create(wanted, labels, name));
    }
    if (usable.length > 0) pools.set(wanted.functionId, usable.slice(0, wanted.warmPoolSize));
    else pools.delete(wanted.functionId);
  };

  /** A warm container for a run; undefined where none is left. */
  const takeWarm = async (run: WantedRun, name: string): Promise<Unit | undefined> => {
    const pool = pools.get(run.functionId) ?? [];
    for (let unit = pool.shift(); unit; unit = pool.shift()) {
      if (unit.template !== run.template) continue;
      const adopted = await engine.adopt?.(unit, run, name);
      if (adopted) return adopted;
    }
    return undefined;
  };

  return {
    name: engine.name,
    list: () => engine.list(),
    ...(engine.removeUnused && { removeUnused: engine.removeUnused }),
    watch: (onChange, signal) => engine.watch(onChange, signal),

    async apply(wanted, units): Promise<Found> {
      const replicas = units.filter(({ kind }) => kind === "replica");
      const failed = replicas.filter((unit) => !isLive(unit) && !stopping.has(unit.id));
      const fresh = failed.filter(({ id }) => !counted.has(id));
      for (const { id } of fresh) counted.add(id);
      const live = replicas.filter((unit) => isLive(unit) && !stopping.has(unit.id));
      const current = live.filter(({ template }) => template === wanted.template);
      const outdated = live.filter(({ template }) => template !== wanted.template);
      const available = current.filter(isSettled);
      const found = {
        available: available.length,
        outdated: outdated.filter(({ ready }) => ready).length,
        newFailures: fresh.length,
        hopeless: false,
        againInMs: current.length > available.length ? settleMs / 2 : undefined,
      };
      const lastFailure = failed.toSorted((a, b) => Number(b.endedAt) - Number(a.endedAt))[0]?.reason ?? "";

      // Too many, such as after a change of replicas or when all old ones are replaced.
      const surplus = Math.max(0, current.length - wanted.replicas);
      for (const unit of current.toSorted((a, b) => b.slot - a.slot).slice(0, surplus)) await end(unit);
      const needless = available.length + outdated.length - wanted.replicas;
      for (const unit of outdated.slice(0, Math.max(0, needless))) await end(unit);

      const missing = wanted.replicas - current.length;
      if (missing <= 0 && wanted.warmPoolSize === 0 && !units.some(({ kind }) => kind === "warm")) {
        return { ...found, reason: "" };
      }
      const waitMs = wanted.notBefore ? wanted.notBefore.getTime() - Date.now() : 0;
      // Where old ones serve, one new one at a time; the first one's failure leaves the others as they are.
      const atOnce = outdated.length > 0 ? Math.min(1, wanted.replicas + 1 - live.length) : missing;
      const unsettled = outdated.length > 0 && current.length > available.length;
      try {
        await engine.prepare(wanted);
        await keepWarm(wanted, units);
        if (missing <= 0) return { ...found, reason: "" };
        if (waitMs > 0) {
          return { ...found, reason: lastFailure || "the last container failed", againInMs: waitMs };
        }
        if (!unsettled) {
          const all = [...units];
          for (let made = 0; made < atOnce; made++) all.push(await startReplica(wanted, all));
        }
      } catch (error) {
        if (!(error instanceof CannotStart)) throw error;
        return {
          ...found,
          reason: error.message,
          hopeless: !error.wait,
          againInMs: error.wait ? 5_000 : undefined,
        };
      }
      return { ...found, reason: lastFailure, againInMs: settleMs };
    },

    async retire(_functionId, _namespace, units) {
      const standing = units.filter(({ kind }) => kind !== "run");
      for (const unit of standing) {
        if (unit.kind === "warm") await engine.remove(unit);
        else if (isLive(unit)) await end(unit);
      }
      return !standing.some((unit) => unit.kind === "replica" && isLive(unit));
    },

    async startRun(run) {
      const labels = {
        kind: "run",
        replica: `${run.functionName}-${run.invocationId.slice(-12)}-${run.attempt}`,
        slot: 0,
        invocationId: run.invocationId,
        attempt: run.attempt,
      } as const;
      const name = runName(run.invocationId, run.attempt);
      const warm = await takeWarm(run, name);
      if (warm) return await engine.start(warm);
      await engine.prepare(run);
      return await engine.start(await engine.create(run, labels, name, run));
    },

    waitRun: (unit, signal) => engine.wait(unit, signal),
    stop: (unit) => end(unit),
    readResult: (unit) => engine.readResult(unit),
    readLog: (unit, position, signal) => engine.readLog(unit, position, signal),
    async remove(unit) {
      await engine.remove(unit);
      counted.delete(unit.id);
      stopping.delete(unit.id);
    },
    close: () => engine.close(),
  };
}

function isLive({ state }: Unit): boolean {
  return state !== "ended";
}

function isSettled({ ready, startedAt }: Unit): boolean {
  return ready && startedAt !== undefined && Date.now() - startedAt.getTime() >= settleMs;
}
