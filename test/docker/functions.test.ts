/** Functions on a real Docker engine, as a person would try them: the whole server as a process of its own. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { Webhook } from "standardwebhooks";
import { FunctionStatus } from "../../server/src/gen/pulsewire/functions/v1/function_pb.js";
import { FunctionsService } from "../../server/src/gen/pulsewire/functions/v1/functions_service_pb.js";
import { InvocationPhase } from "../../server/src/gen/pulsewire/functions/v1/invocation_pb.js";
import { createTestDatabase, type TestDatabase } from "../helpers/database.ts";
import { type DockerEngine, secondImage, startDockerEngine, testImage } from "../helpers/docker-engine.ts";
import { withKey } from "../helpers/platform.ts";
import { grpcSession, registerTenant, settingsFor } from "../helpers/server.ts";
import { type ServerProcess, startServerProcess } from "../helpers/server-process.ts";

const shell = (script: string) => ["/bin/sh", "-c", script];
const forever = "trap 'exit 0' TERM; while :; do sleep 0.1; done";
const logLines = Number(process.env.PULSEWIRE_TEST_LOG_LINES ?? 1_000_000);

type Fns = Client<typeof FunctionsService>;

let engine: DockerEngine;
let database: TestDatabase;
let server: ServerProcess;
let apiKey: string;
before(async () => {
  engine = await startDockerEngine();
  database = await createTestDatabase();
  server = await start();
  apiKey = (await registerTenant(server.url, "first")).apiKey;
});
after(async () => {
  await server?.stop();
  await database?.drop();
  await engine?.[Symbol.asyncDispose]();
});

function start(): Promise<ServerProcess> {
  return startServerProcess({
    ...settingsFor(database),
    PULSEWIRE_FUNCTIONS_RUNTIME: "docker",
    PULSEWIRE_DOCKER_HOST: engine.host,
    PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "on",
  });
}

async function withFunctions<T>(use: (fns: Fns) => Promise<T>): Promise<T> {
  using session = grpcSession(server.url, withKey(apiKey).headers);
  return await use(createClient(FunctionsService, session.transport));
}

async function until<T>(what: string, look: () => Promise<T | false | undefined>, ms = 60_000): Promise<T> {
  for (const end = Date.now() + ms; ; ) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} did not happen in ${ms} ms`);
    await sleep(50);
  }
}

const untilRunning = (name: string, replicas: number) =>
  until(`${name} runs with ${replicas}`, () =>
    withFunctions(async (fns) => {
      const { function: found } = await fns.getFunction({ name });
      const runs = found?.status === FunctionStatus.RUNNING && found.availableReplicas === replicas;
      return runs && found.observedGeneration === found.generation && found;
    }),
  );

/** Containers of a function, whatever their state. */
async function containersOf(name: string, all = true) {
  return await engine.docker.listContainers({ all, filters: { label: [`io.pulsewire.name=${name}`] } });
}

/** All lines from a cursor on, as long as the stream lasts. */
async function linesOf(name: string, request: object = {}): Promise<string[]> {
  return await withFunctions(async (fns) => {
    const lines: string[] = [];
    for await (const message of fns.streamLogs({ name, tail: -1, ...request })) {
      lines.push(...message.lines.map(({ text }) => text));
    }
    return lines;
  });
}

describe("on a real engine", () => {
  test("create, heal, update, delete: containers come and go, logs stay", async () => {
    const command = shell(`echo "hello from $GREETING"; ${forever}`);
    await withFunctions((fns) =>
      fns.createFunction({ name: "web", image: testImage, replicas: 2, command, env: { GREETING: "one" } }),
    );
    const made = await untilRunning("web", 2);
    assert.equal(made.runtime, "docker");

    const [victim] = await containersOf("web", false);
    await engine.cli("kill", victim?.Id ?? "");
    await until("healing", async () => {
      const running = await containersOf("web", false);
      return running.length === 2 && running.every(({ Id }) => Id !== victim?.Id);
    });
    await untilRunning("web", 2);
    const [removed] = await containersOf("web", false);
    await engine.cli("rm", "-f", removed?.Id ?? "");
    await until("healing after a removal", async () => {
      const running = await containersOf("web", false);
      return running.length === 2 && running.every(({ Id }) => Id !== removed?.Id);
    });
    await untilRunning("web", 2);

    await withFunctions((fns) =>
      fns.updateFunction({ name: "web", image: secondImage, env: { GREETING: "two" } }),
    );
    await untilRunning("web", 2);
    await until("the new image everywhere", async () => {
      const running = await containersOf("web", false);
      return running.length === 2 && running.every(({ Image }) => Image === secondImage);
    });

    await engine.restart();
    await untilRunning("web", 2);
    await until(
      "two containers after the engine was started again",
      async () => (await containersOf("web", false)).length === 2,
    );

    await withFunctions((fns) => fns.deleteFunction({ name: "web" }));
    const lines = await linesOf("web", { follow: true });
    assert.equal((await containersOf("web")).length, 0);
    assert.ok(lines.filter((line) => line === "hello from one").length >= 3, String(lines));
    assert.ok(lines.filter((line) => line === "hello from two").length >= 2, String(lines));
    assert.deepEqual(await linesOf("web"), lines, "and they stay");
  });

  test("what is not ours is left alone", async () => {
    await engine.cli("run", "-d", "--name", "foreign", testImage, "/bin/sleep", "1000");
    await withFunctions((fns) =>
      fns.createFunction({ name: "neighbour", image: testImage, command: shell(forever) }),
    );
    await untilRunning("neighbour", 1);
    await withFunctions((fns) => fns.deleteFunction({ name: "neighbour" }));
    await until("the end", async () => (await containersOf("neighbour")).length === 0);
    assert.match(await engine.cli("ps", "--format", "{{.Names}}"), /foreign/);
    await engine.cli("rm", "-f", "foreign");
  });

  test("what belongs to no function is removed, and so is the network of a tenant without containers", async () => {
    const request = { name: "orphaned", image: testImage, command: shell(forever) };
    await withFunctions((fns) => fns.createFunction(request));
    await untilRunning("orphaned", 1);
    const [own] = await containersOf("orphaned", false);
    const labels = { ...own?.Labels, "io.pulsewire.function": randomUUID() };
    const orphan = await engine.docker.createContainer({
      Image: testImage,
      Labels: labels,
      Cmd: shell(forever),
    });
    await orphan.start();
    const ours = async () =>
      (await engine.docker.listNetworks({ filters: { label: ["io.pulsewire.tenant"] } })).length;
    assert.equal(await ours(), 1);
    await until("the orphan's end", async () => (await containersOf("orphaned", false)).length === 1);
    await untilRunning("orphaned", 1);
    await withFunctions((fns) => fns.deleteFunction({ name: "orphaned" }));
    await until("the end of the network", async () => (await ours()) === 0);
    await withFunctions((fns) => fns.createFunction(request));
    await untilRunning("orphaned", 1);
    assert.equal(await ours(), 1);
    await withFunctions((fns) => fns.deleteFunction({ name: "orphaned" }));
  });

  test("containers are limited, without new privileges, and in their tenant's network", async () => {
    const limits = { cpuMillicores: 250, memoryBytes: 33_554_432n };
    await withFunctions((fns) =>
      fns.createFunction({ name: "limited", image: testImage, command: shell(forever), limits }),
    );
    await untilRunning("limited", 1);
    const [found] = await containersOf("limited", false);
    const { HostConfig: host } = await engine.docker.getContainer(found?.Id ?? "").inspect();
    assert.equal(host.NanoCpus, 250_000_000);
    assert.equal(host.Memory, 33_554_432);
    assert.equal(host.Privileged, false);
    assert.deepEqual(host.SecurityOpt, ["no-new-privileges"]);
    assert.match(host.NetworkMode ?? "", /^pulsewire-/);
    await withFunctions((fns) => fns.deleteFunction({ name: "limited" }));
  });

  test("an invocation survives the death of the server, and tells its end where it was asked to", async (t) => {
    const bodies: { body: string; headers: Record<string, unknown> }[] = [];
    const receiver = createServer((req, res) => {
      let body = "";
      req.on("data", (chunk) => {
        body += chunk;
      });
      req.on("end", () => {
        bodies.push({ body, headers: req.headers });
        res.writeHead(204).end();
      });
    }).listen(0, "127.0.0.1");
    await once(receiver, "listening");
    t.after(() => receiver.close());
    const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/done`;
    const command = shell('sleep 3; cat "$PULSEWIRE_INPUT_FILE" > "$PULSEWIRE_RESULT_FILE"; echo done');
    await withFunctions((fns) => fns.createFunction({ name: "job", image: testImage, replicas: 0, command }));
    const input = { kind: { case: "stringValue" as const, value: "what goes in" } };
    const called = await withFunctions((fns) =>
      fns.invokeFunction({ name: "job", input, callback: { url } }),
    );
    const invocationId = called.invocation?.id ?? "";
    await until("the run", () =>
      withFunctions(
        async (fns) =>
          (await fns.getInvocation({ invocationId })).invocation?.phase === InvocationPhase.RUNNING,
      ),
    );
    await server.kill();
    server = await start();
    const ended = await until("the end", () =>
      withFunctions(async (fns) => {
        const { invocation, done } = await fns.waitInvocation({ invocationId });
        return done && invocation;
      }),
    );
    assert.equal(ended.phase, InvocationPhase.SUCCEEDED, ended.reason);
    assert.deepEqual(ended.result?.kind, input.kind);
    assert.equal(ended.attempts.length, 1, "the container was found again");
    await until("the end of its container", async () => (await containersOf("job")).length === 0);
    await until("the callback", async () => bodies.length > 0);
    const [told] = bodies;
    const verified = new Webhook(called.callbackSecret).verify(
      told?.body ?? "",
      told?.headers as Record<string, string>,
    );
    assert.equal((verified as { id: string }).id, invocationId);
  });

  test(`a log of ${logLines} lines is followed while the server is killed twice: none missing, none twice`, async () => {
    const command = shell(`seq 1 ${logLines}; ${forever}`);
    await withFunctions((fns) => fns.createFunction({ name: "talker", image: testImage, command }));
    let cursor = "";
    let expected = 1;
    let lastNumber = 0n;
    let kills = 0;
    const started = performance.now();
    while (expected <= logLines) {
      try {
        await withFunctions(async (fns) => {
          for await (const message of fns.streamLogs({ name: "talker", follow: true, tail: -1, cursor })) {
            for (const { text, number } of message.lines) {
              assert.equal(text, String(expected), `after ${kills} kills`);
              assert.equal(number, lastNumber + 1n);
              lastNumber = number;
              expected++;
            }
            cursor = message.cursor;
            if (expected > logLines) return;
            if (kills < 2 && expected > ((kills + 1) * logLines) / 4) {
              kills++;
              void server.kill();
            }
          }
        });
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        await server.kill();
        server = await start();
      }
    }
    assert.equal(kills, 2);
    console.log(`${logLines} lines followed in ${Math.round(performance.now() - started)} ms, 2 kills`);
    const { rows } = await database.superuser.query("select max(last_line)::int as n from function_logs");
    assert.equal(rows[0].n, logLines, "and nothing else stands in the log");
    await withFunctions((fns) => fns.deleteFunction({ name: "talker" }));
    await until("the end of its container", async () => (await containersOf("talker")).length === 0);
    assert.deepEqual(await linesOf("talker", { tail: 2 }), [String(logLines - 1), String(logLines)]);
  });
});
