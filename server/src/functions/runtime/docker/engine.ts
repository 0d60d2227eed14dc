/** Containers through the Docker Engine API, also Podman's. */
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import Dockerode from "dockerode";
import type { FunctionsConfig } from "../../../config/functions.ts";
import {
  CannotStart,
  type ContainerSpec,
  maxResultBytes,
  type ResultFile,
  type RunEnd,
  RuntimeUnavailable,
  runCommand,
  runEnv,
  standardEnv,
  stopGraceSeconds,
  type WantedRun,
} from "../runtime.ts";
import type { Engine, UnitLabels } from "../slots.ts";
import { createImages } from "./images.ts";
import { installationLabel, labelsOf, unitOfInspected, unitOfListed } from "./labels.ts";
import { createNetworks } from "./networks.ts";
import { readLog } from "./read-log.ts";
import { firstFile, tarOf } from "./tar.ts";

const files = { input: "/pulsewire/input.json", result: "/pulsewire/result" };
/** Files of one container's log that the engine keeps in turn, and processes that a container may have. */
const logFiles = 8;
const maxProcesses = 1_024;
/** What Podman says, with a 500, where Docker says 409. */
const nameInUse = /name "[^"]*" is already in use/;
/** Pause before the log of a container that runs and says nothing is opened again. */
const againMs = 200;

/** Connects when first used. */
export function createDockerEngine(
  config: Pick<FunctionsConfig, "dockerHost" | "dockerNetwork" | "logBufferBytes">,
  installation: string,
): Engine {
  const docker = new Dockerode(connectionOf(config.dockerHost));
  const filters = { label: [`${installationLabel}=${installation}`] };
  const listeners = new Set<(functionId: string | undefined) => void>();
  const images = createImages(docker, (functionId) => {
    for (const listener of listeners) listener(functionId);
  });
  const networks = createNetworks(docker, config.dockerNetwork, installation);

  /** Says what is wrong where the engine cannot be reached; other errors stay as they are. */
  const reaching = async <T>(call: () => Promise<T>): Promise<T> => {
    try {
      return await call();
    } catch (error) {
      const { code, statusCode } = error as { code?: string; statusCode?: number };
      if (statusCode !== undefined || code === undefined || !/^E[A-Z]+$/.test(code)) throw error;
      throw new RuntimeUnavailable(
        `the Docker engine at ${config.dockerHost} cannot be reached (${code}); start it, or set PULSEWIRE_DOCKER_HOST`,
        { cause: error },
      );
    }
  };

  const inspect = async (idOrName: string) => unitOfInspected(await docker.getContainer(idOrName).inspect());

  const createOptions = async (
    spec: ContainerSpec,
    labels: UnitLabels,
    name: string,
    run: WantedRun | undefined,
  ): Promise<Dockerode.ContainerCreateOptions> => {
    const isRun = labels.kind !== "replica";
    const command = isRun ? runCommand(spec) : spec.command;
    const env = {
      ...standardEnv(spec),
      ...(run && runEnv(run, files)),
      ...(labels.kind === "warm" && {
        PULSEWIRE_INPUT_FILE: files.input,
        PULSEWIRE_RESULT_FILE: files.result,
      }),
    };
    return {
      name,
      Image: spec.image,
      // The whole command, as with Kubernetes: what the image has as entry point does not come before it.
      ...(command.length > 0 && { Entrypoint: [...command.slice(0, 1)], Cmd: [...command.slice(1)] }),
      Env: Object.entries(env).map(([key, value]) => `${key}=${value}`),
      Labels: labelsOf(installation, spec, labels),
      HostConfig: {
        NanoCpus: spec.cpuMillicores * 1_000_000,
        Memory: Number(spec.memoryBytes),
        MemorySwap: Number(spec.memoryBytes),
        PidsLimit: maxProcesses,
        NetworkMode: await networks.of(spec.tenantId),
        SecurityOpt: ["no-new-privileges"],
        CapDrop: ["AUDIT_WRITE", "MKNOD", "NET_RAW", "SETFCAP"],
        RestartPolicy: { Name: "no" },
        LogConfig: {
          Type: "json-file",
          Config: {
            "max-size": String(Math.ceil(config.logBufferBytes / logFiles)),
            "max-file": String(logFiles),
          },
        },
      },
    };
  };

  const putInput = (container: Dockerode.Container, run: WantedRun | undefined) =>
    container.putArchive(
      tarOf([
        { path: "pulsewire/", mode: 0o777, content: Buffer.alloc(0) },
        { path: files.input.slice(1), mode: 0o444, content: Buffer.from(run?.input ?? "") },
      ]),
      { path: "/" },
    );

  return {
    name: "docker",

    list: () => reaching(async () => (await docker.listContainers({ all: true, filters })).map(unitOfListed)),

    watch: (onChange, signal) =>
      reaching(async () => {
        listeners.add(onChange);
        try {
          const events = (await docker.getEvents({
            filters: { ...filters, type: ["container"] },
            abortSignal: signal,
          } as Dockerode.GetEventsOptions)) as unknown as AsyncIterable<Buffer>;
          onChange(undefined);
          for await (const chunk of events) {
            for (const [, id] of chunk.toString().matchAll(/"io\.pulsewire\.function":"([0-9a-f-]{36})"/g))
              onChange(id);
          }
        } finally {
          listeners.delete(onChange);
        }
      }),

    prepare: (spec) => reaching(() => images.ensure(spec)),

    create: (spec, labels, name, run) =>
      reaching(async () => {
        try {
          const container = await docker.createContainer(await createOptions(spec, labels, name, run));
          if (run?.input !== undefined || labels.kind !== "replica") await putInput(container, run);
          return await inspect(container.id);
        } catch (error) {
          const { statusCode, message } = error as { statusCode?: number; message: string };
          if (statusCode === 409 || (statusCode === 500 && nameInUse.test(message))) {
            const found = await inspect(name);
            // The server may have ended between making it and giving it its input.
            if (found.state === "created" && run) await putInput(docker.getContainer(found.id), run);
            return found;
          }
          if (statusCode === 404) {
            images.forget(spec.image);
            networks.forget(spec.tenantId);
            throw new CannotStart(`the image or network has gone (${message}); it is fetched again`, {
              wait: true,
            });
          }
          if (statusCode === 400) throw new CannotStart(message, { wait: false });
          throw error;
        }
      }),

    start: (unit) =>
      reaching(async () => {
        const container = docker.getContainer(unit.id);
        if (unit.state !== "created") return unit;
        try {
          await container.start();
        } catch (error) {
          const { statusCode = 0, message } = error as { statusCode?: number; message: string };
          if (statusCode === 304) return await inspect(unit.id);
          if (statusCode < 400) throw error;
          await container.remove({ force: true });
          if (statusCode === 404) networks.forget(unit.tenantId);
          throw new CannotStart(`the container cannot be started: ${plain(message)}`, { wait: false });
        }
        return await inspect(unit.id);
      }),

    releaseName: (unit) =>
      reaching(async () => {
        const name = `pulsewire-${installation}-ended-${unit.id.slice(0, 12)}`;
        await docker.getContainer(unit.id).rename({ name });
      }),

    adopt: (unit, run, name) =>
      reaching(async () => {
        const container = docker.getContainer(unit.id);
        try {
          // Only one gets the name, and only once.
          await container.rename({ name });
          if (run.input !== undefined) await putInput(container, run);
          return await inspect(container.id);
        } catch (error) {
          if ((error as { statusCode?: number }).statusCode === undefined) throw error;
          return undefined;
        }
      }),

    wait: (unit, signal) =>
      reaching(async (): Promise<RunEnd> => {
        const container = docker.getContainer(unit.id);
        try {
          await container.wait({ condition: "not-running", abortSignal: signal } as object);
          const ended = await inspect(unit.id);
          return {
            exitCode: ended.exitCode,
            reason: ended.exitCode === 0 ? "" : ended.reason,
            startedAt: ended.startedAt,
            endedAt: ended.endedAt ?? new Date(),
          };
        } catch (error) {
          signal.throwIfAborted();
          if ((error as { statusCode?: number }).statusCode !== 404) throw error;
          const reason = "the container was removed by somebody else";
          return { exitCode: undefined, reason, startedAt: unit.startedAt, endedAt: new Date() };
        }
      }),

    stop: (unit) =>
      reaching(async () => {
        // The engine waits for the end and kills; nobody here does.
        docker
          .getContainer(unit.id)
          .stop({ t: stopGraceSeconds })
          .catch(() => {
            // Gone or ended already, or the engine is away: the next pass looks again.
          });
      }),

    readResult: (unit) =>
      reaching(async (): Promise<ResultFile | undefined> => {
        try {
          const archive = await docker.getContainer(unit.id).getArchive({ path: files.result });
          return await firstFile(archive as unknown as AsyncIterable<Buffer>, maxResultBytes);
        } catch (error) {
          if ((error as { statusCode?: number }).statusCode === 404) return undefined;
          throw error;
        }
      }),

    async *readLog(unit, position, signal) {
      const container = docker.getContainer(unit.id);
      let from: JsonValue | undefined = position;
      try {
        for (let follow = true; ; ) {
          let some = false;
          for await (const batch of readLog(container, from, signal, follow)) {
            some = true;
            from = batch.position;
            yield batch;
          }
          signal.throwIfAborted();
          if (some) continue;
          if (!follow) return;
          // Whoever follows a container that ends may miss its last lines; what is read without following is all there is.
          if ((await inspect(unit.id)).state === "ended") follow = false;
          else await sleep(againMs, undefined, { signal });
        }
      } catch (error) {
        // Removed by somebody else: what was not read is gone.
        if ((error as { statusCode?: number }).statusCode !== 404) throw error;
      }
    },

    remove: (unit) =>
      reaching(async () => {
        try {
          await docker.getContainer(unit.id).remove({ force: true, v: true });
        } catch (error) {
          const { statusCode } = error as { statusCode?: number };
          // Gone, or being removed.
          if (statusCode !== 404 && statusCode !== 409) throw error;
        }
      }),

    removeUnused: (tenantsInUse) => reaching(() => networks.removeUnused(tenantsInUse)),

    async close() {},
  };
}

/** Docker's messages name its own parts; what a person needs stands behind the last one. */
function plain(message: string): string {
  return message
    .replace(/^\(HTTP code \d+\)[^-]*- /, "")
    .replace(/^.*?(exec|starting container process caused): /s, "$1: ")
    .trim()
    .slice(0, 500);
}

function connectionOf(host: string): Dockerode.DockerOptions {
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) };
  const url = new URL(host.replace(/^tcp:/, "http:"));
  return {
    protocol: url.protocol === "https:" ? "https" : "http",
    host: url.hostname,
    port: Number(url.port) || 2375,
  };
}
