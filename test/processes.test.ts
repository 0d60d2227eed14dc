import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { AuthService } from "../server/src/gen/pulsewire/auth/v1/auth_service_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { childrenOf } from "./faults/processes.ts";
import { readDemoKey, type ServerProcess, startServerProcess } from "./helpers/server-process.ts";

const processes = 3;

describe("several processes on one port, on the embedded default", () => {
  let dataDir: string;
  let server: ServerProcess;
  let key: string;
  before(async () => {
    dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-processes-"));
    server = await startServerProcess({
      PULSEWIRE_DATA_DIR: dataDir,
      PULSEWIRE_PROCESSES: String(processes),
      PULSEWIRE_AUTH_RATE_LIMIT: "20",
    });
    key = readDemoKey(dataDir);
  });
  after(async () => {
    await server?.kill();
    await rm(dataDir, { recursive: true, force: true });
  });

  /** A connection of its own, and so a process in its turn. */
  function open(): { transport: ReturnType<typeof createGrpcTransport> } & Disposable {
    const sessionManager = new Http2SessionManager(server.url);
    const transport = createGrpcTransport({
      baseUrl: server.url,
      sessionManager,
      interceptors: [
        (next) => (req) => {
          if (!req.header.has("x-api-key")) req.header.set("x-api-key", key);
          return next(req);
        },
      ],
    });
    return { transport, [Symbol.dispose]: () => sessionManager.abort() };
  }
  const members = () => childrenOf(server.pid).filter(({ pid }) => isNode(pid));

  test("each member is ready and answers with the same data", async () => {
    assert.equal(members().length, processes);
    for (let index = 0; index < processes * 2; index++) {
      assert.equal((await fetch(`${server.url}/readyz`, { headers: { connection: "close" } })).status, 200);
      using connection = open();
      const client = createClient(IngestionService, connection.transport);
      const answer = await client.ingestEvent({ event: { eventId: "same", eventType: "a" } });
      assert.equal(answer.duplicate, index > 0);
    }
  });

  test("what is told in one is seen by those who watch in others", async () => {
    const clientKrn = "krn:demo:client:across";
    const all = Array.from({ length: processes }, () => open());
    const ends = new AbortController();
    try {
      const seen = all.map(async ({ transport }) => {
        const client = createClient(ProgressService, transport);
        const stream = client.watchProgress({ clientKrn, filename: "a.csv" }, { signal: ends.signal });
        for await (const { deltas, snapshot } of stream) {
          if ([...deltas, ...snapshot].some((one) => (one.counts?.done ?? 0n) > 0n)) return true;
        }
        return false;
      });
      const reporter = createClient(ProgressService, all[0]?.transport ?? assert.fail());
      await reporter.reportProgress({ clientKrn, filename: "a.csv", counts: { done: 1n } });
      assert.deepEqual(
        await Promise.all(seen),
        all.map(() => true),
      );
    } finally {
      ends.abort();
      for (const connection of all) connection[Symbol.dispose]();
    }
  });

  test("calls are limited across all of them", async () => {
    let refused = 0;
    for (let index = 0; index < 24; index++) {
      const answer = await fetch(`${server.url}/${AuthService.typeName}/RefreshToken`, {
        method: "POST",
        headers: { "content-type": "application/json", connection: "close" },
        body: JSON.stringify({ refreshToken: "none" }),
      });
      await answer.body?.cancel();
      if (answer.status === 429) refused++;
    }
    assert.equal(refused, 4);
  });

  test("a member that is killed is replaced, and the others serve on", async () => {
    const [victim] = members();
    assert.ok(victim);
    process.kill(victim.pid, "SIGKILL");
    // A connection that was just being given to it is lost with it.
    for (let waited = 0; !server.log().includes("a process has ended"); waited += 20) {
      assert.ok(waited < 10_000, "nobody noticed");
      await sleep(20);
    }
    for (let index = 0; index < 30; index++) {
      using connection = open();
      const client = createClient(IngestionService, connection.transport);
      await client.ingestEvent({ event: { eventType: "after" } });
    }
    for (let waited = 0; members().length < processes; waited += 50) {
      assert.ok(waited < 30_000, "it was not replaced");
      await sleep(50);
    }
    assert.ok(!members().some(({ pid }) => pid === victim.pid));
  });

  test("a connection that is being given to a member that dies is closed, not forgotten", async () => {
    const [victim] = members();
    assert.ok(victim);
    const replaced = server.log().split("a process has ended").length;
    process.kill(victim.pid, "SIGSTOP");
    const { hostname, port } = new URL(server.url);
    const outcomes = Array.from({ length: 2 * processes }, async () => {
      const socket = connect({ host: hostname, port: Number(port) });
      socket.on("error", () => {});
      socket.write("GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
      let got = "";
      socket.on("data", (chunk) => {
        got += chunk;
      });
      const timer = setTimeout(() => socket.destroy(), 10_000);
      await new Promise((resolve) => socket.once("close", resolve));
      clearTimeout(timer);
      return got.startsWith("HTTP/1.1 200");
    });
    const answered = await Promise.race([Promise.all(outcomes), sleep(300)]);
    assert.equal(answered, undefined, "the stopped member was given no connection");
    const killed = performance.now();
    process.kill(victim.pid, "SIGKILL");
    const all = await Promise.all(outcomes);
    assert.ok(performance.now() - killed < 5_000, "a client waited for nobody");
    assert.ok(all.filter(Boolean).length >= all.length - 1);
    while (server.log().split("a process has ended").length === replaced) await sleep(20);
    for (let waited = 0; members().length < processes; waited += 50) {
      assert.ok(waited < 30_000, "it was not replaced");
      await sleep(50);
    }
  });

  test("drains all of them on SIGTERM, and ends with 0 and without its database", async () => {
    await server.stop();
    assert.deepEqual(childrenOf(server.pid), []);
  });
});

describe("processes that cannot start", () => {
  test("end with what is wrong", async () => {
    const taken = startServerProcess({
      DATABASE_URL: "postgres://nobody@127.0.0.1:1/none",
      PULSEWIRE_PROCESSES: "2",
    });
    await assert.rejects(taken, /the database cannot be reached/);
  });
});

function isNode(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("main.ts");
  } catch {
    return false; // it has ended
  }
}
