/** A Docker engine of the test's own, with an image that is made here: no registry is reached. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import Dockerode from "dockerode";
import { endWithThisProcess } from "./server-process.ts";

const run = promisify(execFile);
const startMs = 20_000;
const commands = [
  "sh",
  "cat",
  "echo",
  "sleep",
  "seq",
  "true",
  "false",
  "date",
  "env",
  "head",
  "tail",
  "kill",
  "trap",
];

/** The image that every engine has: busybox, and nothing else. */
export const testImage = "pulsewire-test:1";
/** The same again, to update to. */
export const secondImage = "pulsewire-test:2";

export interface DockerEngine extends AsyncDisposable {
  /** For PULSEWIRE_DOCKER_HOST. */
  readonly host: string;
  readonly docker: Dockerode;
  /** Runs `docker` with these arguments and returns what it printed. */
  cli(...args: string[]): Promise<string>;
  /** Stops the daemon and its containers, as a machine does that is started again, and starts it. */
  restart(): Promise<void>;
}

/** Needs root, Debian's `docker.io` and `busybox-static`. */
export async function startDockerEngine(): Promise<DockerEngine> {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-docker-"));
  const socket = path.join(folder, "docker.sock");
  const host = `unix://${socket}`;
  const docker = new Dockerode({ socketPath: socket });
  const cli = async (...args: string[]) => (await run("docker", ["-H", host, ...args])).stdout;

  const start = async () => {
    const daemon = spawn(
      "dockerd",
      [
        ...["--data-root", path.join(folder, "data"), "--exec-root", path.join(folder, "exec")],
        ...["--pidfile", path.join(folder, "pid"), "--host", host, "--storage-driver", "vfs"],
        ...["--iptables=false", "--ip6tables=false", "--log-level", "warn"],
      ],
      { stdio: "ignore" },
    );
    endWithThisProcess(daemon);
    for (const until = Date.now() + startMs; ; ) {
      if (
        await docker.ping().then(
          () => true,
          () => false,
        )
      )
        return daemon;
      if (daemon.exitCode !== null || Date.now() > until) throw new Error("dockerd did not start");
      await sleep(100);
    }
  };
  const stop = async (daemon: ChildProcess) => {
    daemon.kill("SIGTERM");
    if (daemon.exitCode === null) await once(daemon, "exit");
  };

  let daemon = await start();
  await makeImages(folder, cli);
  return {
    host,
    docker,
    cli,
    async restart() {
      await stop(daemon);
      daemon = await start();
    },
    async [Symbol.asyncDispose]() {
      try {
        const left = await docker.listContainers({ all: true });
        for (const { Id } of left) await docker.getContainer(Id).remove({ force: true });
        for (const { Name, Id } of await docker.listNetworks()) {
          if (Name.startsWith("pulsewire")) await docker.getNetwork(Id).remove();
        }
      } finally {
        await stop(daemon);
        await rm(folder, { recursive: true, force: true });
      }
    },
  };
}

async function makeImages(folder: string, cli: DockerEngine["cli"]): Promise<void> {
  const root = path.join(folder, "root");
  for (const name of ["bin", "tmp", "etc"]) await mkdir(path.join(root, name), { recursive: true });
  await cp("/bin/busybox", path.join(root, "bin/busybox"));
  for (const name of commands) await symlink("busybox", path.join(root, "bin", name));
  const archive = path.join(folder, "root.tar");
  await run("tar", ["-C", root, "-cf", archive, "."]);
  await cli("import", "--change", 'CMD ["/bin/sh"]', archive, testImage);
  await cli("tag", testImage, secondImage);
}
