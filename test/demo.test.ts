import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { LineReader } from "../examples/gateway/src/line-to-event.ts";
import { startTestServer, type TestServer } from "./helpers/server.ts";

const demo = path.join(import.meta.dirname, "../examples/gateway/src/demo.ts");

/** Runs the demo as `npm run demo` does. */
async function runDemo(args: string[], env: Record<string, string>) {
  const child = spawn(process.execPath, ["--conditions=pulsewire-source", demo, ...args], {
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => {
    stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(child, "close");
  return { code, stdout, stderr };
}

describe("lines become events", () => {
  const read = (file: string, ...lines: string[]) => {
    const reader = new LineReader(file, 1000);
    return lines.map((text, index) => reader.toEvent({ number: index + 1, text }));
  };
  const local = (text: string) => Date.parse(text);

  test("of dpkg, syslog, npm, a web server and plain text", () => {
    const [dpkg] = read("/var/log/dpkg.log", "2026-01-02 03:04:05 status installed tar:amd64 1.35");
    assert.equal(dpkg?.eventType, "log.dpkg.status");
    assert.equal(dpkg?.timestamp, local("2026-01-02T03:04:05"));
    assert.equal(dpkg?.source?.service, "dpkg");

    const [syslog] = read("/var/log/syslog", "Jan  2 03:04:05 host sshd[123]: error: no key");
    assert.equal(syslog?.eventType, "log.sshd.error");
    assert.equal(syslog?.severity, "error");
    assert.match(new Date(syslog?.timestamp ?? 0).toISOString(), /^\d{4}-01-0/);

    const [npm] = read(
      "/root/.npm/_logs/2026-x-debug-0.log",
      "12 http fetch GET 200 https://example.com 31ms",
    );
    assert.equal(npm?.eventType, "log.npm.http");
    assert.equal(npm?.severity, "debug");

    const line = '10.0.0.1 - - [02/Jan/2026:03:04:05 +0000] "GET / HTTP/1.1" 200 5';
    const [web] = read("/var/log/nginx/access.log", line);
    assert.equal(web?.eventType, "log.access");
    assert.equal(web?.timestamp, Date.UTC(2026, 0, 2, 3, 4, 5));
    assert.equal(web?.message, line);

    const [plain, next] = read("notes.txt", "hello", "[2026-01-02T03:04:05.678Z] WARN: hm");
    assert.equal(plain?.eventType, "log.notes");
    assert.equal(plain?.timestamp, 1000);
    assert.equal(next?.eventType, "log.notes.warn");
    assert.equal(next?.timestamp, Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  });

  test("of NDJSON: known fields by their names, the rest as payload", () => {
    const [one, two, three] = read(
      "orders.ndjson",
      '{"event_type":"order","user_id":"u1","timestamp":"2026-01-02T03:04:05Z","severity":"WARN","amount":5}',
      '{"level":50,"time":1767322000000,"msg":"failed","err":{"code":1}}',
      '{"type":5,"user_id":7}',
    );
    assert.deepEqual(
      [one?.eventType, one?.userId, one?.severity, one?.payload],
      ["order", "u1", "warning", { amount: 5 }],
    );
    assert.equal(one?.timestamp, Date.UTC(2026, 0, 2, 3, 4, 5));
    assert.deepEqual(
      [two?.eventType, two?.message, two?.severity, two?.timestamp],
      ["log.orders", "failed", "error", 1767322000000],
    );
    assert.deepEqual(three?.payload, { type: 5, user_id: 7 });
  });

  test("that are the same in every run, and differ by file, line and text", () => {
    const ids = [read("a", "x", "x", "y"), read("b", "x")].flat().map(({ eventId }) => eventId);
    assert.equal(new Set(ids).size, 4);
    assert.deepEqual(read("a", "x", "{}"), read("a", "x", "{}"));
  });
});

describe("npm run demo", () => {
  let server: TestServer;
  let folder: string;
  let env: Record<string, string>;
  before(async () => {
    server = await startTestServer();
    folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-demo-test-"));
    env = { PULSEWIRE_ENDPOINT: server.url, PULSEWIRE_API_KEY: server.tenant.apiKey };
  });
  after(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  test("sends readings and lines and reads them back; the second run is all duplicates", async () => {
    const file = path.join(folder, "orders.ndjson");
    const lines = Array.from({ length: 1500 }, (_, index) =>
      JSON.stringify({ event_type: index % 3 === 0 ? "order" : "visit", user_id: `u${index}`, index }),
    );
    await writeFile(file, lines.join("\n"));
    const first = await runDemo([file, "--seconds", "2"], env);
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stdout, /1,500 accepted, 0 duplicate, 0 conflicting, 0 rejected/);
    assert.match(first.stdout, /order +500 +500/);
    assert.match(first.stdout, /visit +1,000 +1,000/);
    assert.match(first.stdout, /events\/s/);
    assert.match(first.stdout, /CPU, all cores\n +100\.0 % ┤/);
    assert.match(first.stdout, /memory_usage +\d+ /);
    assert.match(first.stdout, /curl /);
    const second = await runDemo([file, "--seconds", "1"], env);
    assert.match(second.stdout, /0 accepted, 1,500 duplicate, 0 conflicting, 0 rejected/);
    assert.match(second.stdout, /nothing was stored twice/);
  });

  // Seven seconds: a store is offline after three without a reading, and the alert waits for as long.
  test("--outage shows a store go offline, alert, be acknowledged and recover, with no gap", async () => {
    const { code, stdout, stderr } = await runDemo(["--outage", "1"], env);
    assert.equal(code, 0, stderr + stdout);
    const steps = [
      "the store is online",
      "the network is gone",
      "the store is offline: no sample for",
      "an alert fires: .* sends no readings",
      "it is acknowledged",
      "the network is back; the gateway holds \\d+ samples",
      "the alert is resolved",
      "the store is online again",
      "The alert: pending → firing → acknowledged → recovering → resolved",
      "The history has no gap",
    ];
    assert.match(stdout, new RegExp(steps.join("[^]*")));
  });

  test("--lines bounds what is sent", async () => {
    const file = path.join(folder, "many.log");
    await writeFile(file, "a line\n\n".repeat(500));
    const { stdout } = await runDemo([file, "--seconds", "1", "--lines", "10"], env);
    assert.match(stdout, /10 accepted/);
  });

  test("starts a server where none runs, and stops it", async () => {
    const file = path.join(folder, "few.log");
    await writeFile(file, "one\ntwo\n");
    const dataDir = path.join(folder, "data");
    await chmod(folder, 0o755);
    for (const expected of [/2 accepted, 0 duplicate/, /0 accepted, 2 duplicate/]) {
      const { code, stdout, stderr } = await runDemo([file, "--seconds", "1"], {
        PULSEWIRE_DATA_DIR: dataDir,
      });
      assert.equal(code, 0, stderr);
      assert.match(stdout, /started for this demo/);
      assert.match(stdout, expected);
      const endpoint = /http:\/\/[\d.]+:\d+/.exec(stdout)?.[0] ?? "";
      await assert.rejects(fetch(`${endpoint}/readyz`));
    }
  });

  test("what is wrong is said in one sentence, with exit code 1", async () => {
    const secret = path.join(folder, "folder");
    const cases: [string[], Record<string, string>, RegExp][] = [
      [[path.join(folder, "none.log")], env, /none\.log is not there/],
      [[folder], env, /is no file/],
      [["--seconds", "0"], env, /--seconds must be a number from 1/],
      [["--nonsense"], env, /--nonsense.*See --help/],
      [[], { ...env, PULSEWIRE_API_KEY: "evp_wrong" }, /refuses the API key/],
      [
        [],
        { ...env, PULSEWIRE_ENDPOINT: "http://127.0.0.1:9" },
        /No Pulsewire server answers at http:\/\/127/,
      ],
      [[], { PULSEWIRE_API_KEY: "evp_x" }, /Set both/],
      [[], { PULSEWIRE_DATA_DIR: secret, DATABASE_URL: "postgres://x" }, /With DATABASE_URL/],
    ];
    const results = await Promise.all(cases.map(([args, environment]) => runDemo(args, environment)));
    for (const [index, { code, stderr }] of results.entries()) {
      assert.equal(code, 1);
      assert.match(stderr, cases[index]?.[2] ?? /$^/);
      assert.equal(stderr.trim().split("\n").length, 1, stderr);
    }
  });
});
