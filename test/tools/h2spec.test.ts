/** What the server makes of frames that break HTTP/2, as h2spec judges it. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { h2spec, runTool } from "./tools.ts";

/** What is otherwise on purpose. */
const otherwise = [
  // Without the preface a connection is one of HTTP/1.1, and is refused there.
  "http2/3.5: Sends invalid connection preface",
  // RFC 9113 has done away with priorities: they are not looked at.
  "http2/5.3.1: Sends HEADERS frame that depend on itself",
  "http2/5.3.1: Sends PRIORITY frame that depend on itself",
];

let server: TestServer;
let folder: string;
before(async () => {
  server = await startTestServer();
  folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-h2spec-"));
});
after(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

test("h2spec finds what is otherwise on purpose, and nothing else", async () => {
  const { hostname, port } = new URL(server.url);
  const report = path.join(folder, "report.xml");
  await runTool(h2spec.path, "-h", hostname, "-p", port, "-P", "/livez", "-o", "2", "-j", report);
  const cases = [
    ...(await readFile(report, "utf8")).matchAll(
      /<testcase package="([^"]+)" classname="([^"]+)"[^>]*>(.*?)<\/testcase>/gs,
    ),
  ];
  assert.ok(cases.length >= 140, `${cases.length} cases`);
  const found = cases.filter(([, , , inside]) => inside).map(([, where, what]) => `${where}: ${what}`);
  assert.deepEqual(found.sort(), otherwise);
});
