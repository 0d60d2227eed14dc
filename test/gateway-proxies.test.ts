/** What something between a gateway and the service answers, such as a proxy: HTTP without the service's word. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import http2, { type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, type TestContext, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  createGateway,
  IngestEventsRequestSchema,
  IngestEventsResponseSchema,
  type NodeGatewayOptions,
  OutcomeStatus,
  ReportProgressRequestSchema,
} from "../sdk/src/index.ts";

/** The names of what a call brings: ids of events, or a report's file. The status of a proxy, or none: the service answers. */
type Refuse = (names: readonly string[]) => number | undefined;

const page = "<html><body><h1>Something went wrong</h1></body></html>";

/** A service behind a proxy, which answers what it refuses with a page. */
async function startProxied(t: TestContext, refuse: Refuse) {
  const stored = new Set<string>();
  const sessions = new Set<ServerHttp2Session>();
  const server = http2.createServer();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => {});
  });
  server.on("stream", async (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    const body = await stream.toArray();
    const grpc = String(headers["content-type"]).startsWith("application/grpc");
    const message = Buffer.concat(body).subarray(grpc ? 5 : 0);
    const ofEvents = String(headers[":path"]).endsWith("/IngestEvents");
    const names = ofEvents
      ? fromBinary(IngestEventsRequestSchema, message).events.map(({ eventId }) => eventId)
      : [fromBinary(ReportProgressRequestSchema, message).filename];
    const status = refuse(names);
    if (status !== undefined) {
      stream.respond({ ":status": status, "content-type": "text/html" });
      stream.end(page);
      return;
    }
    for (const name of names) stored.add(name);
    const outcomes = names.map((id) => ({ id, status: OutcomeStatus.ACCEPTED }));
    const answer = ofEvents
      ? toBinary(IngestEventsResponseSchema, create(IngestEventsResponseSchema, { outcomes }))
      : new Uint8Array();
    if (!grpc) {
      stream.respond({ ":status": 200, "content-type": "application/proto" });
      stream.end(answer);
      return;
    }
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(answer.length, 1);
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end(Buffer.concat([prefix, answer]));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const open = (more: Partial<NodeGatewayOptions> = {}) => {
    const gateway = createGateway({
      endpoint,
      apiKey: "evp_x",
      compression: "none",
      batch: { maxItems: 100, maxDelayMs: 5 },
      retry: { initialDelayMs: 5, maxDelayMs: 20 },
      pace: { startJitterMs: 0, rampMs: 0 },
      onDrop() {},
      ...more,
    });
    t.after(() => gateway.close({ deadlineMs: 0 }));
    return gateway;
  };
  return { stored, open };
}

const flushMs = { deadlineMs: 20_000 };
const ids = (count: number) => Array.from({ length: count }, (_, index) => `e${index}`);

describe("a page instead of an answer", { concurrency: true }, () => {
  for (const protocol of ["grpc", "connect"] as const) {
    for (const status of [200, 302, 400, 401, 403, 404, 408, 429, 500, 501, 502, 503, 504, 520]) {
      test(`${protocol}, ${status} for a while: all is delivered afterwards, by a gateway without a spool`, async (t) => {
        let left = 5;
        const { stored, open } = await startProxied(t, () => (left-- > 0 ? status : undefined));
        const gateway = open({ protocol });
        for (const eventId of ids(1_000)) gateway.event({ eventId, eventType: "x" });
        const { accepted, dropped, retried } = await gateway.flush(flushMs);
        assert.deepEqual({ accepted, dropped }, { accepted: 1_000, dropped: {} });
        assert.ok(retried >= 100);
        assert.equal(stored.size, 1_000);
      });
    }
  }

  test("413: batches become smaller, and only what is too large by itself is dropped", async (t) => {
    const refuse: Refuse = (names) => (names.length > 30 || names.includes("e77") ? 413 : undefined);
    const { stored, open } = await startProxied(t, refuse);
    const gateway = open();
    for (const eventId of ids(1_000)) gateway.event({ eventId, eventType: "x" });
    const { accepted, dropped } = await gateway.flush(flushMs);
    assert.deepEqual({ accepted, dropped }, { accepted: 999, dropped: { MESSAGE_TOO_LARGE: 1 } });
    assert.equal(stored.size, 999);
  });
});

describe("an item that is refused for no known reason", { concurrency: true }, () => {
  test("is found, and dropped where there is no spool; all others are delivered", async (t) => {
    const { stored, open } = await startProxied(t, (names) => (names.includes("e777") ? 500 : undefined));
    const gateway = open();
    for (const eventId of ids(2_000)) gateway.event({ eventId, eventType: "x" });
    const { accepted, dropped } = await gateway.flush(flushMs);
    assert.deepEqual({ accepted, dropped }, { accepted: 1_999, dropped: { UNKNOWN: 1 } });
    assert.ok(!stored.has("e777"));
  });

  test("lies in the spool's aside; moved back it is sent with its id", async (t) => {
    let ill = true;
    const poison = ["e150", "e1500"];
    const refuse: Refuse = (names) => (ill && poison.some((id) => names.includes(id)) ? 403 : undefined);
    const { stored, open } = await startProxied(t, refuse);
    const directory = mkdtempSync(path.join(tmpdir(), "pulsewire-aside-"));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const drops: string[] = [];
    const options = {
      spool: { directory },
      onDrop: ({ message }: { message: string }) => void drops.push(message),
    };
    const gateway = open(options);
    for (const eventId of ids(2_000)) gateway.event({ eventId, eventType: "x" });
    const { accepted, dropped, persisted } = await gateway.flush(flushMs);
    assert.deepEqual(
      { accepted, dropped, persisted },
      { accepted: 1_998, dropped: { set_aside: 2 }, persisted: 0 },
    );
    await gateway.close();
    const aside = path.join(directory, "aside");
    const files = readdirSync(aside);
    assert.equal(files.length, 2);
    for (const message of drops)
      assert.match(message, /^HTTP 403 It is kept in .*\/aside\/events\..*\.log\.$/);

    ill = false;
    for (const file of files) renameSync(path.join(aside, file), path.join(directory, file));
    const next = open(options);
    const counts = await next.flush(flushMs);
    assert.deepEqual([counts.queued, counts.accepted, counts.dropped], [2, 2, {}]);
    assert.deepEqual([...stored].sort(), ids(2_000).sort());
  });

  test("while nothing gets through nothing is given up", async (t) => {
    const { stored, open } = await startProxied(t, () => 500);
    const gateway = open({ retry: { initialDelayMs: 1, maxDelayMs: 2 } });
    for (const eventId of ids(3_000)) gateway.event({ eventId, eventType: "x" });
    const { retried, dropped, pending } = await gateway.flush({ deadlineMs: 1_000 });
    assert.deepEqual({ dropped, pending }, { dropped: {}, pending: 3_000 });
    assert.ok(retried > 1_600);
    assert.equal(stored.size, 0);
  });

  test("a report of progress holds up the others for a while only", async (t) => {
    const told: string[] = [];
    const refuse: Refuse = ([name = ""]) => {
      told.push(name);
      return name === "poison" ? 500 : undefined;
    };
    const { stored, open } = await startProxied(t, refuse);
    const gateway = open();
    for (const filename of ["a", "poison", "b"]) gateway.progress({ clientKrn: "c", filename, done: 1 });
    const flushed = gateway.flush(flushMs);
    for (let index = 0; index < 100; index++)
      gateway.progress({ clientKrn: "c", filename: `f${index}`, done: 1 });
    const { accepted, dropped } = await flushed.then(() => gateway.flush(flushMs));
    assert.deepEqual({ accepted, dropped }, { accepted: 102, dropped: { UNKNOWN: 1 } });
    assert.equal(stored.size, 102);
    assert.equal(told.filter((name) => name === "poison").length, 37);
  });
});
