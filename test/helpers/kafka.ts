import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Admin } from "@platformatic/kafka";
import { generate } from "selfsigned";
import { endWithThisProcess } from "./server-process.ts";

const run = promisify(execFile);
const version = "3.9.1";
const cache = path.resolve(import.meta.dirname, "../../.cache", `kafka-${version}`);
const startTimeoutMs = 60_000;
/** Who may use the secure listener. */
const account = { username: "pebbles", password: "a secret of the broker" };

/** A real broker of Kafka on a free port of loopback. */
export interface TestKafka extends AsyncDisposable {
  /** `host:port`. */
  readonly brokers: string;
  /** The same broker over TLS, for `account` alone, by PLAIN or SCRAM-SHA-512. */
  readonly secureBrokers: string;
  readonly account: { readonly username: string; readonly password: string };
  /** A PEM file with the certificate that its TLS is trusted by. */
  readonly caFile: string;
  createTopic(name: string, partitions: number): Promise<void>;
  /** Sends lines as messages with kcat; resolves when the broker has them all. */
  produce(topic: string, lines: readonly string[], options?: readonly string[]): Promise<void>;
  /** The committed offsets of a group, by partition. */
  committed(group: string, topic: string, partitions: number): Promise<number[]>;
  /** Kills the broker; what it has acknowledged is on its disk. */
  down(): Promise<void>;
  /** Starts it again. */
  up(): Promise<void>;
}

/** The broker's jars, from Maven Central into a folder that is kept. */
async function fetchJars(): Promise<string> {
  const jars = path.join(cache, "jars");
  const complete = path.join(cache, "complete");
  if (existsSync(complete)) return jars;
  await mkdir(cache, { recursive: true });
  const dependency =
    `<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>` +
    `<version>${version}</version></dependency>`;
  await writeFile(
    path.join(cache, "pom.xml"),
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>test</groupId>` +
      `<artifactId>kafka</artifactId><version>1</version><dependencies>${dependency}</dependencies></project>`,
  );
  const goal = ["dependency:copy-dependencies", `-DoutputDirectory=${jars}`, "-DincludeScope=runtime"];
  await run("mvn", ["-q", "-B", ...goal], { cwd: cache, maxBuffer: 1 << 26 });
  await writeFile(complete, "");
  return jars;
}

/** Starts a broker (KRaft, one node); ends it with the scope. */
export async function startKafka(): Promise<TestKafka> {
  const jars = await fetchJars();
  const dir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-kafka-"));
  const [port, controllerPort, securePort] = await Promise.all([freePort(), freePort(), freePort()]);
  const brokers = `127.0.0.1:${port}`;
  const secureBrokers = `127.0.0.1:${securePort}`;
  const { keyStore, caFile } = await makeCertificate(dir);
  const config = path.join(dir, "server.properties");
  const settings = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.quorum.voters": `1@127.0.0.1:${controllerPort}`,
    listeners: `PLAINTEXT://${brokers},SECURE://${secureBrokers},CONTROLLER://127.0.0.1:${controllerPort}`,
    "advertised.listeners": `PLAINTEXT://${brokers},SECURE://${secureBrokers}`,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURE:SASL_SSL",
    "listener.name.secure.ssl.keystore.type": "PEM",
    "listener.name.secure.ssl.keystore.location": keyStore,
    "listener.name.secure.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
    "listener.name.secure.plain.sasl.jaas.config":
      "org.apache.kafka.common.security.plain.PlainLoginModule required " +
      `user_${account.username}="${account.password}";`,
    "listener.name.secure.scram-sha-512.sasl.jaas.config":
      "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    "log.dirs": path.join(dir, "data"),
    "auto.create.topics.enable": false,
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 1,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "group.initial.rebalance.delay.ms": 0,
    "log.flush.interval.messages": 1,
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
  await writeFile(config, lines.join(""));
  const java = ["-Xmx512m", "-cp", path.join(jars, "*")];
  await run("java", [
    ...java,
    "kafka.tools.StorageTool",
    "format",
    "-t",
    "q1Sh-9_ISia_zwGINzRvyQ",
    "-c",
    config,
    "--add-scram",
    `SCRAM-SHA-512=[name=${account.username},password=${account.password}]`,
  ]);

  let child: ChildProcess | undefined;
  const down = async () => {
    if (!child) return;
    const ended = once(child, "close");
    child.kill("SIGKILL");
    child = undefined;
    await ended;
  };
  const withAdmin = async <T>(fn: (admin: Admin) => Promise<T>): Promise<T> => {
    const admin = new Admin({ clientId: "tests", bootstrapBrokers: [brokers], retries: 20, retryDelay: 200 });
    try {
      return await fn(admin);
    } finally {
      await admin.close();
    }
  };
  const up = async () => {
    child = spawn("java", [...java, "kafka.Kafka", config], { stdio: ["ignore", "pipe", "pipe"], cwd: dir });
    endWithThisProcess(child);
    let said = "";
    const note = (chunk: Buffer) => {
      said = (said + chunk).slice(-5_000);
    };
    child.stdout?.on("data", note);
    child.stderr?.on("data", note);
    for (const end = Date.now() + startTimeoutMs; ; await sleep(100)) {
      if (child.exitCode !== null) throw new Error(`Kafka ended:\n${said}`);
      const found = await run("kcat", ["-L", "-b", brokers, "-m", "1"]).catch(() => undefined);
      if (found?.stdout.includes("1 brokers")) return;
      if (Date.now() > end) throw new Error(`Kafka does not answer:\n${said}`);
    }
  };
  await up();
  return {
    brokers,
    secureBrokers,
    account,
    caFile,
    down,
    up,
    createTopic: (name, partitions) =>
      withAdmin(async (admin) => {
        await admin.createTopics({ topics: [name], partitions, replicas: 1 });
      }),
    async produce(topic, messages, options = []) {
      const producer = spawn("kcat", ["-P", "-b", brokers, "-t", topic, "-X", "acks=all", ...options], {
        stdio: ["pipe", "inherit", "inherit"],
      });
      const ended = once(producer, "close");
      producer.stdin.end(messages.map((message) => `${message}\n`).join(""));
      const [code] = await ended;
      if (code !== 0) throw new Error(`kcat ended with ${code}`);
    },
    committed: (group, topic, partitions) =>
      withAdmin(async (admin) => {
        const indexes = Array.from({ length: partitions }, (_, index) => index);
        const groups = await admin.listConsumerGroupOffsets({
          groups: [{ groupId: group, topics: [{ name: topic, partitionIndexes: indexes }] }],
        });
        const found = groups[0]?.topics.find(({ name }) => name === topic)?.partitions ?? [];
        return indexes.map((index) =>
          Number(found.find(({ partitionIndex }) => partitionIndex === index)?.committedOffset ?? -1n),
        );
      }),
    async [Symbol.asyncDispose]() {
      await down();
      await rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

/** A certificate for loopback that nobody else has signed: with its key in a file for the broker, and alone. */
async function makeCertificate(dir: string): Promise<{ keyStore: string; caFile: string }> {
  const made = await generate([{ name: "commonName", value: "a broker" }], {
    extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
  });
  const [caFile, keyStore] = [path.join(dir, "certificate.pem"), path.join(dir, "store.pem")];
  await writeFile(caFile, made.cert);
  await writeFile(keyStore, `${made.private}\n${made.cert}`);
  return { keyStore, caFile };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address ? address.port : 0;
}
