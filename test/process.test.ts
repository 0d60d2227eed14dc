import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { IngestionService } from "../sdk/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { crashPostgres, postmasterOf } from "./faults/processes.ts";
import { readDemoKey, type ServerProcess, startServerProcess } from "./helpers/server-process.ts";

/** What a program needs of `demo.json`. */
interface Demo {
  endpoint: string;
  tenantSlug: string;
  email: string;
  password: string;
  apiKey: string;
}

describe("the process, on the embedded default", () => {
  let dataDir: string;
  before(async () => {
    dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-process-"));
  });
  after(() => rm(dataDir, { recursive: true, force: true }));

  const demo = async (): Promise<Demo> => JSON.parse(await readFile(path.join(dataDir, "demo.json"), "utf8"));
  const call = async (server: ServerProcess, method: string, body: object, apiKey: string) => {
    const response = await fetch(`${server.url}/pulsewire.ingestion.v1.IngestionService/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-api-key": apiKey },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  };

  test("starts on an empty folder, prints credentials once made, and ends with 0 on SIGTERM", async () => {
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    assert.equal((await fetch(`${server.url}/readyz`)).status, 200);
    const credentials = await demo();
    assert.equal(credentials.endpoint, server.url);
    assert.equal(credentials.tenantSlug, "demo");
    assert.equal((await stat(path.join(dataDir, "demo.json"))).mode & 0o777, 0o600);
    for (const text of [credentials.apiKey, credentials.password, "curl ", "buf curl", "createGateway"]) {
      assert.ok(server.stdout().includes(text), `the greeting lacks ${text}`);
    }
    const sent = await call(
      server,
      "IngestEvent",
      { event: { eventId: "kept", eventType: "a" } },
      credentials.apiKey,
    );
    assert.equal(sent.status, 200);
    await server.stop();
  });

  test("starts again on the same folder with the same credentials and data", async () => {
    const before = await demo();
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    const { endpoint: _, ...now } = await demo();
    assert.deepEqual({ ...now, endpoint: before.endpoint }, before);
    const again = await call(
      server,
      "IngestEvent",
      { event: { eventId: "kept", eventType: "a" } },
      now.apiKey,
    );
    assert.equal(again.body.duplicate, true);
    const login = await fetch(`${server.url}/pulsewire.auth.v1.AuthService/Login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ email: now.email, password: now.password, tenantSlug: now.tenantSlug }),
    });
    assert.equal(login.status, 200);
    assert.ok(
      !server.log().includes(now.apiKey) && !server.log().includes(now.password),
      "a secret in the log",
    );
    await server.stop();
  });

  test("a second server on the same folder says who has it", async () => {
    await using first = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    const second = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir }).then(
      async (server) => {
        await server.stop();
        return "started";
      },
      (error: Error) => error.message,
    );
    assert.match(second, /in use/);
    assert.ok(second.includes(String(first.pid)) && second.includes(first.url), second);
    // Its database ends with it only where it is not killed, and the folder goes next.
    await first.stop();
  });
});

test("a server that loses its database tells everybody to come back, and ends with what has happened", async () => {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-process-"));
  try {
    await using server = await startServerProcess({ PULSEWIRE_DATA_DIR: dataDir });
    const transport = createGrpcTransport({ baseUrl: server.url });
    const ingestion = createClient(IngestionService, transport);
    const headers = { "x-api-key": readDemoKey(dataDir) };
    const endings: ConnectError[] = [];
    const watch = async () => {
      try {
        for await (const _ of ingestion.watchEvents({}, { headers })) watching.resolve();
      } catch (error) {
        endings.push(ConnectError.from(error));
      }
    };
    const send = async () => {
      try {
        for (let n = 0; ; n++) {
          await ingestion.ingestEvent({ event: { eventId: `lost-${n}`, eventType: "a" } }, { headers });
        }
      } catch (error) {
        endings.push(ConnectError.from(error));
      }
    };
    const watching = Promise.withResolvers<void>();
    const calls = [watch(), send(), send(), send()];
    await watching.promise;
    crashPostgres(postmasterOf(dataDir));
    await Promise.all(calls);
    assert.deepEqual(
      endings.map(({ code }) => Code[code]),
      endings.map(() => "Unavailable"),
      endings.map(String).join("\n"),
    );
    assert.equal(await server.ended, 1);
    assert.match(server.log(), /the embedded database has ended/);
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});

test("settings that cannot be used are named, with what to set", async () => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ PORT: "eighty" }, /PORT is 'eighty'; it must be a whole number from 0 to 65535/],
    [{ LOG_LEVEL: "loud" }, /LOG_LEVEL is 'loud'; it must be one of/],
    [{ JWT_SECRET_KEY: "short" }, /JWT_SECRET_KEY is too short/],
    [{ PULSEWIRE_TLS_CERT_FILE: "/x.pem" }, /go together/],
    [{ DATABASE_URL: "mysql://x" }, /postgres:\/\//],
    [{ DATABASE_URL: "postgres://u:secret@127.0.0.1:1/x" }, /cannot be reached/],
  ];
  for (const [settings, message] of cases) {
    const error = await startServerProcess(settings).then(
      () => "started",
      (thrown: Error) => thrown.message,
    );
    assert.match(error, message);
    assert.ok(!error.includes("secret") && !error.includes("    at "), error);
  }
});

test("a port that is taken is named", async () => {
  const taken = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => taken.once("listening", resolve));
  const { port } = taken.address() as { port: number };
  const dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-port-"));
  try {
    const start = startServerProcess({ PULSEWIRE_DATA_DIR: dataDir, PORT: String(port) });
    await assert.rejects(start, new RegExp(`127\\.0\\.0\\.1:${port} is in use; set PORT`));
  } finally {
    taken.close();
    await rm(dataDir, { recursive: true, force: true });
  }
});
