import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createGateway } from "../sdk/src/index.ts";
import { Sink } from "./helpers/sink.ts";

/** Runs a program whose gateway is closed with it; `signal` is sent when it prints something. */
async function run(endpoint: string, program: string, signal?: NodeJS.Signals) {
  const source = `
    import { createGateway } from ${JSON.stringify(new URL("../sdk/src/index.ts", import.meta.url).href)};
    const open = (more) => createGateway({ endpoint: ${JSON.stringify(endpoint)}, closeOnExit: true, ...more });
    ${program}`;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", source]);
  const killer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  let [stdout, stderr, signalled] = ["", "", 0];
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  child.stdout.on("data", (chunk) => {
    if (stdout === "" && signal) {
      signalled = performance.now();
      child.kill(signal);
    }
    stdout += chunk;
  });
  const [code, by] = await once(child, "close");
  clearTimeout(killer);
  return { code, by, stdout, stderr, tookMs: performance.now() - signalled };
}

const queue = (count: number) =>
  `for (let index = 0; index < ${count}; index++) gateway.event({ eventType: "x", payload: { index } });`;
const stay = "setInterval(() => {}, 1000);";

describe("a gateway that is closed with its process", () => {
  test("SIGTERM: 10,000 queued are delivered, and the signal ends the process", async (t) => {
    await using sink = new Sink();
    const endpoint = await sink.start();
    const program = `const gateway = open(); ${stay} ${queue(10_000)} console.log("queued");`;
    const { by, stderr, tookMs } = await run(endpoint, program, "SIGTERM");
    assert.equal(by, "SIGTERM", stderr);
    assert.equal(sink.events.size, 10_000);
    t.diagnostic(`ended ${Math.round(tookMs)} ms after the signal`);
  });

  test("a program that listens to the signal, too, decides how it ends; two gateways", async () => {
    await using sink = new Sink();
    const endpoint = await sink.start();
    const { code, stdout, stderr } = await run(
      endpoint,
      `const [gateway, other] = [open(), open()];
      const timer = setInterval(() => {}, 1000);
      process.on("SIGINT", () => { console.log("mine"); clearInterval(timer); process.exitCode = 3; });
      ${queue(100)} other.event({ eventType: "y" });
      console.log("queued");`,
      "SIGINT",
    );
    assert.deepEqual([stdout, code], ["queued\nmine\n", 3], stderr);
    assert.equal(sink.events.size, 101);
  });

  test("the sink hangs: it ends by its deadline, and what is left is in the spool", async (t) => {
    const directory = mkdtempSync(join(tmpdir(), "pulsewire-exit-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    await using sink = new Sink();
    const endpoint = await sink.start();
    sink.faults.push("hang", "hang", "hang");
    const options = `{ spool: { directory: ${JSON.stringify(directory)} }, closeOnExit: { deadlineMs: 300 } }`;
    const program = `const gateway = open(${options}); ${stay} ${queue(2000)} console.log("queued");`;
    const { by, stderr, tookMs } = await run(endpoint, program, "SIGTERM");
    assert.equal(by, "SIGTERM", stderr);
    assert.ok(tookMs < 1500, `${tookMs} ms`);
    sink.faults.length = 0;
    await using next = createGateway({ endpoint, spool: { directory }, pace: { startJitterMs: 0 } });
    assert.equal(next.counts.persisted, 2000);
    assert.equal((await next.flush()).accepted, 2000);
  });

  test("beforeExit: what is queued in an outage is waited for, up to the deadline", async () => {
    await using sink = new Sink();
    const endpoint = await sink.start();
    sink.faults.push("unavailable for 150 ms", "unavailable for 150 ms");
    const { code, stderr } = await run(endpoint, `open().event({ eventType: "x" });`);
    assert.equal(code, 0, stderr);
    assert.equal(sink.events.size, 1);
  });

  test("closed before: no listener is left", async () => {
    await using sink = new Sink();
    const endpoint = await sink.start();
    const before = process.listenerCount("SIGTERM");
    const gateway = createGateway({ endpoint, closeOnExit: { signals: ["SIGTERM"], beforeExit: false } });
    assert.equal(process.listenerCount("SIGTERM"), before + 1);
    await gateway.close();
    assert.equal(process.listenerCount("SIGTERM"), before);
  });
});
