/** Local commands in place of containers, for development: no isolation, no limits, no image. */
import { spawn } from "node:child_process";
import { watch as watchFolder } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import {
  CannotStart,
  type ContainerSpec,
  type LogBatch,
  maxResultBytes,
  type RawLine,
  type RunEnd,
  runCommand,
  runEnv,
  standardEnv,
  type Unit,
  type WantedRun,
} from "../runtime.ts";
import type { Engine, UnitLabels } from "../slots.ts";

const supervisor = join(import.meta.dirname, "supervisor.ts");
/** How often files are looked at. */
const pollMs = 50;
const readBytes = 1024 * 1024;
/** A unit whose supervisor has not begun by then never will. */
const startMs = 10_000;

interface UnitFile {
  readonly id: string;
  readonly name: string;
  readonly labels: UnitLabels;
  readonly tenantId: string;
  readonly functionId: string;
  readonly template: number;
  readonly command: readonly string[];
  readonly env: Record<string, string>;
  readonly createdAt: string;
}
interface StartedFile {
  readonly pid: number;
  /** The process group of the command; not given where it could not be started. */
  readonly group?: number;
  readonly startedAt: string;
}
interface EndFile {
  readonly exitCode: number;
  readonly reason: string;
  readonly endedAt: string;
}

/** `path` is the server's own PATH, the only variable of its own that commands get. */
export function createProcessEngine(folder: string, installation: string, path: string): Engine {
  const home = join(folder, installation);
  let count = 0;

  const read = async <T>(...parts: string[]): Promise<T | undefined> => {
    try {
      return JSON.parse(await readFile(join(home, ...parts), "utf8")) as T;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  };

  const unitAt = async (id: string): Promise<Unit | undefined> => {
    const file = await read<UnitFile>(id, "unit.json");
    if (!file) return undefined;
    const started = await read<StartedFile>(id, "started.json");
    const end = (await read<EndFile>(id, "end.json")) ?? lostEnd(file, started);
    const { labels } = file;
    return {
      id,
      ...labels,
      tenantId: file.tenantId,
      functionId: file.functionId,
      template: file.template,
      state: end ? "ended" : started ? "running" : "created",
      ready: started !== undefined && !end,
      exitCode: end?.exitCode,
      reason: end ? end.reason || `the process ended by itself with exit code ${end.exitCode}` : "",
      startedAt: started && new Date(started.startedAt),
      endedAt: end && new Date(end.endedAt),
    };
  };

  const list = async (): Promise<Unit[]> => {
    await mkdir(home, { recursive: true });
    const ids = (await readdir(home)).filter((entry) => entry !== "names");
    return (await Promise.all(ids.map(unitAt))).filter((unit) => unit !== undefined);
  };

  const require = async (id: string): Promise<Unit> => {
    const unit = await unitAt(id);
    if (!unit) throw new Error(`the unit ${id} has gone`);
    return unit;
  };

  return {
    name: "process",
    list,

    async watch(onChange, signal) {
      await mkdir(home, { recursive: true });
      onChange(undefined);
      const watcher = watchFolder(home, { recursive: true }, (_event, name) => {
        if (name === null || /json$/.test(String(name))) onChange(undefined);
      });
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
      watcher.close();
    },

    async prepare(spec) {
      if (spec.command.length > 0 || spec.invocationCommand.length > 0) return;
      throw new CannotStart(
        "the process runtime runs no images: give the function a command, or configure docker or kubernetes",
        { wait: false },
      );
    },

    async create(spec: ContainerSpec, labels, name, run?: WantedRun) {
      const command = labels.kind === "run" ? runCommand(spec) : spec.command;
      if (command.length === 0)
        throw new CannotStart("the function has no command for this", { wait: false });
      await mkdir(join(home, "names"), { recursive: true });
      const id = `${Date.now().toString(36)}-${process.pid.toString(36)}-${++count}`;
      try {
        // Only one can make the file.
        await writeFile(join(home, "names", name), id, { flag: "wx" });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
        const holder = await readFile(join(home, "names", name), "utf8");
        const unit = await unitAt(holder);
        if (unit) return unit;
        await writeFile(join(home, "names", name), id);
      }
      const own = join(home, id);
      await mkdir(own, { mode: 0o700 });
      const files = { input: join(own, "input.json"), result: join(own, "result") };
      if (run?.input !== undefined) await writeFile(files.input, run.input);
      const unit: UnitFile = {
        id,
        name,
        labels,
        tenantId: spec.tenantId,
        functionId: spec.functionId,
        template: spec.template,
        command,
        env: { PATH: path, ...standardEnv(spec), ...(run && runEnv(run, files)) },
        createdAt: new Date().toISOString(),
      };
      await writeFile(join(own, "unit.json.new"), JSON.stringify(unit), { mode: 0o600 });
      await rename(join(own, "unit.json.new"), join(own, "unit.json"));
      return await require(id);
    },

    async start(unit) {
      if (unit.state !== "created") return unit;
      const child = spawn(process.execPath, [supervisor, join(home, unit.id)], {
        detached: true,
        stdio: "ignore",
        env: { PATH: path },
      });
      child.unref();
      for (let waited = 0; waited < startMs; waited += pollMs) {
        const now = await require(unit.id);
        if (now.state !== "created") return now;
        await sleep(pollMs);
      }
      throw new CannotStart("the supervisor of the process did not start", { wait: true });
    },

    async releaseName(unit) {
      const file = await read<UnitFile>(unit.id, "unit.json");
      if (file) await rm(join(home, "names", file.name), { force: true });
    },

    async wait(unit, signal): Promise<RunEnd> {
      for (;;) {
        signal.throwIfAborted();
        const now = await unitAt(unit.id);
        if (!now) {
          return {
            exitCode: undefined,
            reason: "the files of the process were removed by somebody else",
            startedAt: unit.startedAt,
            endedAt: new Date(),
          };
        }
        if (now.state === "ended") {
          return {
            exitCode: now.exitCode,
            reason: now.exitCode === 0 ? "" : now.reason,
            startedAt: now.startedAt,
            endedAt: now.endedAt ?? new Date(),
          };
        }
        await sleep(pollMs, undefined, { signal });
      }
    },

    async stop(unit) {
      const started = await read<StartedFile>(unit.id, "started.json");
      if (started && isAlive(started.pid)) process.kill(started.pid, "SIGTERM");
    },

    async readResult(unit) {
      try {
        await using file = await open(join(home, unit.id, "result"), "r");
        const { size } = await file.stat();
        const bytes = Buffer.alloc(Math.min(size, maxResultBytes));
        await file.read(bytes, 0, bytes.length, 0);
        return { bytes, truncated: size > maxResultBytes };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
        throw error;
      }
    },

    async *readLog(unit, position, signal): AsyncGenerator<LogBatch> {
      let offset = Number(position ?? 0);
      for (;;) {
        const now = await unitAt(unit.id);
        const batch = await readLines(join(home, unit.id, "log"), offset);
        if (batch) {
          offset = Number(batch.position);
          yield batch;
          continue;
        }
        // Looked at before the file was: what it wrote until its end has been read.
        if (!now || now.state === "ended") return;
        await sleep(pollMs, undefined, { signal });
      }
    },

    async remove(unit) {
      const started = await read<StartedFile>(unit.id, "started.json");
      await this.stop(unit);
      // What a supervisor that was killed has left behind.
      if (started?.group && !isAlive(started.pid) && !(await read(unit.id, "end.json")))
        endGroup(started.group);
      await this.releaseName(unit);
      await rm(join(home, unit.id), { recursive: true, force: true });
    },

    async close() {},
  };
}

async function readLines(path: string, offset: number): Promise<LogBatch | undefined> {
  try {
    await using file = await open(path, "r");
    const buffer = Buffer.alloc(readBytes);
    const { bytesRead } = await file.read(buffer, 0, readBytes, offset);
    const end = buffer.subarray(0, bytesRead).lastIndexOf(0x0a) + 1;
    if (end === 0) return undefined;
    const lines = buffer
      .toString("utf8", 0, end - 1)
      .split("\n")
      .map((line): RawLine => {
        const [time, stream, text, continues] = JSON.parse(line);
        return { time, stream, text, continues: continues === 1 };
      });
    return { lines, position: (offset + end) as JsonValue };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** A supervisor that is gone without saying how its command ended was killed, as when the machine was started again. */
function lostEnd(file: UnitFile, started: StartedFile | undefined): EndFile | undefined {
  if (started ? isAlive(started.pid) : Date.now() - Date.parse(file.createdAt) < startMs) return undefined;
  return { exitCode: 137, reason: "the process was killed", endedAt: new Date().toISOString() };
}

function endGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
