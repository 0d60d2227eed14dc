/** A real Kubernetes control plane: etcd, API server, controllers and scheduler as processes, with an emptied disk. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KubeConfig } from "@kubernetes/client-node";
import { endWithThisProcess } from "../helpers/server-process.ts";

const token = "the-token-of-this-test";
const startMs = 60_000;

export interface ControlPlane extends AsyncDisposable {
  /** For PULSEWIRE_KUBECONFIG. */
  readonly kubeconfig: string;
  readonly kube: KubeConfig;
}

/** `binaries` holds kube-apiserver, kube-controller-manager and kube-scheduler; etcd is Debian's. */
export async function startControlPlane(binaries: string): Promise<ControlPlane> {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-kubernetes-"));
  const at = (name: string) => path.join(folder, name);
  const [etcdPort, peerPort, apiPort, managerPort, schedulerPort] = await freePorts(5);
  const etcd = `http://127.0.0.1:${etcdPort}`;
  const server = `https://127.0.0.1:${apiPort}`;
  execFileSync("openssl", ["genrsa", "-out", at("sa.key"), "2048"], { stdio: "ignore" });
  execFileSync("openssl", ["rsa", "-in", at("sa.key"), "-pubout", "-out", at("sa.pub")], { stdio: "ignore" });
  await writeFile(at("tokens.csv"), `${token},admin,admin,system:masters\n`);
  const kube = new KubeConfig();
  kube.loadFromOptions({
    clusters: [{ name: "test", server, skipTLSVerify: true }],
    users: [{ name: "test", token }],
    contexts: [{ name: "test", cluster: "test", user: "test" }],
    currentContext: "test",
  });
  const kubeconfig = at("kubeconfig");
  await writeFile(kubeconfig, kube.exportConfig());

  const processes: ChildProcess[] = [];
  const start = (command: string, args: readonly string[]) => {
    const child = spawn(command, args, { cwd: folder, stdio: "ignore" });
    endWithThisProcess(child);
    processes.push(child);
  };
  const common = (port: number | undefined) => [
    `--kubeconfig=${kubeconfig}`,
    `--authentication-kubeconfig=${kubeconfig}`,
    `--authorization-kubeconfig=${kubeconfig}`,
    "--authentication-tolerate-lookup-failure=true",
    "--leader-elect=false",
    "--bind-address=127.0.0.1",
    `--secure-port=${port}`,
    `--cert-dir=${at("certs")}`,
  ];
  start("etcd", [
    ...["--data-dir", at("etcd"), "--listen-client-urls", etcd, "--advertise-client-urls", etcd],
    ...["--listen-peer-urls", `http://127.0.0.1:${peerPort}`],
  ]);
  start(path.join(binaries, "kube-apiserver"), [
    `--etcd-servers=${etcd}`,
    `--cert-dir=${at("certs")}`,
    `--secure-port=${apiPort}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${at("sa.pub")}`,
    `--service-account-signing-key-file=${at("sa.key")}`,
    `--token-auth-file=${at("tokens.csv")}`,
    "--authorization-mode=AlwaysAllow",
    "--service-cluster-ip-range=10.0.0.0/24",
  ]);
  await untilReady(server);
  start(path.join(binaries, "kube-controller-manager"), [
    ...common(managerPort),
    `--service-account-private-key-file=${at("sa.key")}`,
    // The node of the test sends no heartbeats.
    "--controllers=*,-node-lifecycle-controller",
  ]);
  start(path.join(binaries, "kube-scheduler"), common(schedulerPort));
  return {
    kubeconfig,
    kube,
    async [Symbol.asyncDispose]() {
      for (const child of processes.reverse()) {
        if (child.exitCode !== null || child.signalCode !== null) continue;
        child.kill("SIGKILL");
        await once(child, "exit");
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function untilReady(server: string): Promise<void> {
  for (const until = Date.now() + startMs; ; await sleep(200)) {
    try {
      // The certificate is one that the API server has just made for itself.
      const answer = execFileSync(
        "curl",
        ["-skf", "-H", `authorization: Bearer ${token}`, `${server}/readyz`],
        {
          stdio: ["ignore", "pipe", "ignore"],
        },
      );
      if (answer.toString() === "ok") return;
    } catch {
      // Not yet.
    }
    if (Date.now() > until) throw new Error("the API server did not become ready");
  }
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  const ports: number[] = [];
  for (const each of servers) {
    if (!each.listening) await once(each, "listening");
    ports.push((each.address() as { port: number }).port);
  }
  for (const each of servers) await new Promise((done) => each.close(done));
  return ports;
}
