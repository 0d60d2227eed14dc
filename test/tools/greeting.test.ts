/** What the server prints at its start is pasted as it is, and works. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import type { Readable } from "node:stream";
import { after, before, test } from "node:test";
import { outputOf } from "./tools.ts";

const root = path.join(import.meta.dirname, "../..");

let dataDir: string;
let child: ChildProcess;
let exited: Promise<unknown[]>;
let printed = "";

before(async () => {
  dataDir = await mkdtemp(path.join(os.tmpdir(), "pulsewire-greeting-"));
  child = spawn(process.execPath, ["server/src/main.ts"], {
    cwd: root,
    env: { ...process.env, PULSEWIRE_DATA_DIR: dataDir, PORT: "0", LOG_LEVEL: "warn", DATABASE_URL: "" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  exited = once(child, "exit");
  for await (const chunk of (child.stdout as Readable).iterator({ destroyOnReturn: false })) {
    printed += chunk;
    if (printed.includes("npm run demo")) break;
  }
  assert.match(printed, /npm run demo/, "the server ended without its greeting");
});
after(async () => {
  child.kill("SIGTERM");
  const [code] = await exited;
  await rm(dataDir, { recursive: true, force: true });
  assert.equal(code, 0);
});

/** The indented lines after a title, up to the blank line. */
function printedAfter(title: string): string {
  const [, rest = ""] = printed.split(`${title}\n`);
  const [block = ""] = rest.split("\n\n");
  assert.notEqual(block, "", title);
  return block;
}

interface Greeting {
  receivedAt: string;
  event: { eventType: string; userId: string; payload: unknown };
}

/** The events that have arrived, newest first. */
async function events(): Promise<Greeting[]> {
  const { endpoint, apiKey } = JSON.parse(await readFile(path.join(dataDir, "demo.json"), "utf8"));
  const response = await fetch(`${endpoint}/pulsewire.ingestion.v1.IngestionService/ListEvents`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": apiKey },
    body: "{}",
  });
  assert.equal(response.status, 200);
  return ((await response.json()) as { events?: Greeting[] }).events ?? [];
}

const calls: Record<string, () => Promise<string>> = {
  curl: () => outputOf("sh", "-c", printedAfter("Send an event with curl:")),
  "buf curl": () =>
    outputOf("sh", "-c", printedAfter("With buf curl (reflection is on, so no proto files are needed):")),
  SDK: () => {
    const script = printedAfter("With the SDK:");
    const options = ["--conditions=pulsewire-source", "--input-type=module"];
    return outputOf(process.execPath, ...options, "-e", script);
  },
};
for (const [name, call] of Object.entries(calls)) {
  test(name, async () => {
    const earlier = await events();
    const output = await call();
    if (name !== "SDK") assert.ok(JSON.parse(output).eventId);
    const now = await events();
    assert.equal(now.length, earlier.length + 1);
    const { eventType, userId, payload } = now[0]?.event ?? assert.fail();
    assert.deepEqual(
      { eventType, userId, payload },
      {
        eventType: "greeting",
        userId: "me",
        payload: { hello: "world" },
      },
    );
  });
}
