import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { sql } from "kysely";
import { newResourceId } from "../server/src/auth/ids.ts";
import { withTenant } from "../server/src/db/tenant.ts";
import { WatchEventsRequestSchema } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { readTail, type TailPosition } from "../server/src/ingestion/reading/tail-store.ts";
import { assertFails } from "./helpers/errors.ts";
import { untilProcessed } from "./helpers/recount.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

type Ingestion = Client<typeof IngestionService>;
type Request = Parameters<Ingestion["watchEvents"]>[0];

let server: TestServer;
before(async () => {
  server = await startTestServer();
});
after(() => server.stop());

/** A tenant of its own and ingestion through any server on the database. */
async function newTenant(slug: string) {
  const { apiKey, tenantId } = await server.register(slug);
  const through = (url: string) => {
    const session = grpcSession(url, { "x-api-key": apiKey });
    const ingestion = createClient(IngestionService, session.transport);
    return { ingestion, [Symbol.dispose]: () => session[Symbol.dispose]() };
  };
  return { tenantId, through };
}

/** Watches until the condition holds for the ids so far; the last cursor goes with them. */
async function watchUntil(
  ingestion: Ingestion,
  request: Request,
  enough: (ids: readonly string[], messages: number) => boolean,
  onBegin?: () => void,
): Promise<{ ids: string[]; cursor: string }> {
  const stop = new AbortController();
  const ids: string[] = [];
  let cursor = "";
  let messages = 0;
  try {
    for await (const message of ingestion.watchEvents(request, { signal: stop.signal, timeoutMs: 30_000 })) {
      if (messages++ === 0) onBegin?.();
      ids.push(...message.events.map(({ event }) => event?.eventId ?? ""));
      cursor = message.cursor;
      if (enough(ids, messages)) return { ids, cursor };
    }
    throw new Error("the stream ended by itself");
  } finally {
    stop.abort();
  }
}

const send = (ingestion: Ingestion, ...ids: string[]) =>
  ingestion.ingestEvents({
    events: ids.map((eventId) => ({ eventId, eventType: eventId.split("-")[0] as string })),
  });

describe("watching events", () => {
  test("late commits are neither skipped nor repeated", async () => {
    const { app } = server.database;
    const { tenantId } = await newTenant("late-commits");
    const opened: PromiseWithResolvers<void>[] = [];
    /** A transaction that has written an event and commits when it is told. */
    const begin = async (name: string) => {
      const written = Promise.withResolvers<void>();
      const go = Promise.withResolvers<void>();
      opened.push(go);
      const done = withTenant(app.db, tenantId, async (trx) => {
        const id = newResourceId();
        await sql`insert into events (tenant_id, id, event_id, event_type, severity, priority, occurred_at, encoded)
          values (${tenantId}, ${id}, ${name}, 'a', 1, 1, now(), '')`.execute(trx);
        await sql`insert into event_batches (tenant_id, first_id, last_id, events)
          values (${tenantId}, ${id}, ${id}, 1)`.execute(trx);
        written.resolve();
        await go.promise;
      });
      await Promise.race([written.promise, done]);
      return async () => {
        go.resolve();
        await done;
      };
    };
    let position: TailPosition = { seen: "1:1:" };
    const given: string[][] = [];
    const read = async () => {
      const names: string[] = [];
      for (let more = true; more; ) {
        const step = await withTenant(app.db, tenantId, (trx) => readTail(trx, tenantId, position), {
          isolationLevel: "repeatable read",
        });
        names.push(...step.rows.map((row) => row.event_id));
        ({ position, more } = step);
      }
      given.push(names);
    };
    const [first, second, third] = [await begin("first"), await begin("second"), await begin("third")];
    await read();
    await second();
    await read();
    await read();
    const fourth = await begin("fourth");
    await third();
    await fourth();
    await read();
    await first();
    await read();
    await read();
    assert.deepEqual(given, [[], ["second"], [], ["third", "fourth"], ["first"], []]);
  });

  test("transactions are in the order of their numbers, also where these have more digits", async () => {
    const { app } = server.database;
    const { tenantId } = await newTenant("digits");
    await withTenant(app.db, tenantId, async (trx) => {
      for (const xid of ["9", "10", "11", "100"]) {
        const id = newResourceId();
        await sql`insert into events (tenant_id, id, event_id, event_type, severity, priority, occurred_at, encoded, batch)
          values (${tenantId}, ${id}, ${xid}, 'a', 1, 1, now(), '', ${xid}::xid8)`.execute(trx);
        await sql`insert into event_batches (tenant_id, xid, first_id, last_id, events)
          values (${tenantId}, ${xid}::xid8, ${id}, ${id}, 1)`.execute(trx);
      }
    });
    const { rows } = await withTenant(app.db, tenantId, (trx) => readTail(trx, tenantId, { seen: "1:1:" }), {
      isolationLevel: "repeatable read",
    });
    assert.deepEqual(
      rows.map((row) => row.event_id),
      ["9", "10", "11", "100"],
    );
  });

  test("events come as they are committed, those that match, and a cursor goes on after them", async () => {
    const { through } = await newTenant("live");
    using mine = through(server.url);
    const { ingestion } = mine;
    await send(ingestion, "a-1", "b-1");
    const live = await watchUntil(
      ingestion,
      { filter: { eventTypes: ["a"] } },
      (ids) => ids.length >= 2,
      () => void send(ingestion, "b-2", "a-2", "a-3").catch(() => {}),
    );
    assert.deepEqual(live.ids, ["a-2", "a-3"]);
    await send(ingestion, "a-4", "b-4");
    const filter = { eventTypes: ["a"] };
    const resumed = await watchUntil(ingestion, { filter, cursor: live.cursor }, (ids) => ids.length >= 1);
    assert.deepEqual(resumed.ids, ["a-4"]);
    const backlog = await watchUntil(ingestion, { filter, backlog: 2 }, (ids) => ids.length >= 2);
    assert.deepEqual(backlog.ids, ["a-3", "a-4"]);
    const after = await watchUntil(
      ingestion,
      { filter, cursor: backlog.cursor },
      (_, messages) => messages === 1,
    );
    assert.deepEqual(after.ids, []);
  });

  test("no gap and no repeat across reconnects and two servers, while several write", async () => {
    await using other = await serve(server.database, { PULSEWIRE_ROLE: "api" });
    const { through } = await newTenant("two-servers");
    using here = through(server.url);
    using there = through(other.url);
    const watching = [here, there];
    let writing = true;
    const sent: string[] = [];
    const begun = Promise.withResolvers<void>();
    const write = async (ingestion: Ingestion, writer: number) => {
      await begun.promise;
      for (let round = 0; round < 25; round++) {
        const ids = Array.from(
          { length: 1 + ((round * 7) % 40) },
          (_, index) => `w-${writer}-${round}-${index}`,
        );
        await send(ingestion, ...ids);
        sent.push(...ids);
      }
    };
    const writers = Promise.all([
      write(here.ingestion, 0),
      write(there.ingestion, 1),
      write(here.ingestion, 2),
    ]).finally(() => {
      writing = false;
    });
    const got: string[] = [];
    let cursor = "";
    for (let turn = 0; writing || got.length < sent.length; turn++) {
      const { ingestion } = watching[turn % 2] as { ingestion: Ingestion };
      const part = await watchUntil(
        ingestion,
        { cursor },
        (ids, messages) => messages > 1 + (turn % 4) || (!writing && got.length + ids.length >= sent.length),
        begun.resolve,
      );
      got.push(...part.ids);
      cursor = part.cursor;
    }
    await writers;
    assert.equal(got.length, new Set(got).size, "an event came twice");
    assert.deepEqual(new Set(got), new Set(sent));
  });

  test("what makes no sense is refused, and so is a cursor of another stream or one that is too old", async () => {
    const { tenantId, through } = await newTenant("refused");
    using mine = through(server.url);
    const { ingestion } = mine;
    await send(ingestion, "a-1");
    await untilProcessed(ingestion);
    const { cursor } = await watchUntil(ingestion, {}, (_, messages) => messages === 1);
    const watch = async (request: Request) => {
      for await (const _ of ingestion.watchEvents(request, { timeoutMs: 10_000 })) return;
    };
    const { fields } = await assertFails(
      watch({ filter: { receivedFrom: timestampFromMs(0) } }),
      Code.InvalidArgument,
      "INVALID_FIELD",
    );
    assert.deepEqual(fields, ["filter.received_from"]);
    await assertFails(watch({ cursor, filter: { userId: "x" } }), Code.InvalidArgument, "INVALID_CURSOR");
    const [digest] = JSON.parse(Buffer.from(cursor, "base64url").toString());
    for (const position of [
      ["5:3:", "", "", ""],
      ["1:9:8,2", "", "", ""],
      ["1:2:", "x", "1", ""],
      ["1:99999999999999999999:", "", "", ""],
    ]) {
      const forged = Buffer.from(JSON.stringify([digest, ...position])).toString("base64url");
      await assertFails(watch({ cursor: forged }), Code.InvalidArgument, "INVALID_CURSOR");
    }
    await server.database.superuser.query(
      "update event_rollup_state set trimmed_xid = pg_current_xact_id() where tenant_id = $1",
      [tenantId],
    );
    await assertFails(watch({ cursor }), Code.OutOfRange, "CURSOR_EXPIRED");
  });

  test("a server that drains ends its streams so that they can be resumed", async () => {
    const { through } = await newTenant("drained");
    const other = await serve(server.database, { PULSEWIRE_ROLE: "api" });
    using there = through(other.url);
    using here = through(server.url);
    let cursor = "";
    const stream = (async () => {
      for await (const message of there.ingestion.watchEvents({})) {
        cursor = message.cursor;
        await send(here.ingestion, "a-1");
        void other[Symbol.asyncDispose]();
      }
    })();
    await assertFails(stream, Code.Unavailable, "DRAINING");
    await send(here.ingestion, "a-2");
    const { ids } = await watchUntil(here.ingestion, { cursor }, (all) => all.includes("a-2"));
    assert.deepEqual(ids.slice(-1), ["a-2"]);
  });

  test("who does not read is cut off, and nobody else notices", async () => {
    const { tenantId, through } = await newTenant("slow");
    using mine = through(server.url);
    const { eventTails } = server.context;
    const request = create(WatchEventsRequestSchema);
    const cut = Promise.withResolvers<unknown>();
    let taken = 0;
    let reads = true;
    const slow = eventTails.watch(tenantId, request).start({
      write() {
        taken++;
        return reads;
      },
      end: cut.resolve,
      onDrain: () => {},
    });
    const heard: string[] = [];
    const good = eventTails.watch(tenantId, request).start({
      write({ events }) {
        heard.push(...events.map(({ event }) => event?.eventId ?? ""));
        return true;
      },
      end: assert.fail,
      onDrain: () => {},
    });
    let error: unknown;
    void cut.promise.then((reason) => {
      error = reason;
    });
    const sent = ["s-0"];
    await send(mine.ingestion, "s-0");
    // What is read for a stream alone waits for room, and cuts nobody off: it must have come as far as the others.
    while (taken === 0 || heard.length === 0) await sleep(20);
    await sleep(500);
    const takenBefore = taken;
    reads = false;
    while (error === undefined) {
      const id = `s-${sent.length}`;
      await send(mine.ingestion, id);
      sent.push(id);
      assert.ok(sent.length < 20_000, "never cut off");
    }
    await assertFails(Promise.reject(error), Code.ResourceExhausted, "SLOW_READER");
    assert.equal(taken, takenBefore + 1);
    const isThere = () => heard.length >= sent.length;
    for (let wait = 0; !isThere() && wait < 200; wait++) await sleep(50);
    assert.deepEqual(heard.slice(-sent.length), sent.slice(-heard.length));
    slow();
    good();
  });

  test("an export is whole lines of all events, resumable after any piece", async () => {
    const { through } = await newTenant("export");
    using mine = through(server.url);
    const { ingestion } = mine;
    const events = Array.from({ length: 1_200 }, (_, index) => ({
      eventId: `x-${index}`,
      eventType: index % 3 ? "a" : "b",
      message: "m".repeat(2_000),
    }));
    await ingestion.ingestEvents({ events: events.slice(0, 600) });
    await ingestion.ingestEvents({ events: events.slice(600) });
    const read = async (
      request: Parameters<Ingestion["exportEvents"]>[0],
      pieces = Number.POSITIVE_INFINITY,
    ) => {
      const ids: string[] = [];
      let cursor = "";
      for await (const piece of ingestion.exportEvents(request)) {
        assert.ok(piece.ndjson.length <= 1024 * 1024);
        const lines = Buffer.from(piece.ndjson).toString().split("\n");
        assert.equal(lines.pop(), "");
        assert.equal(lines.length, piece.lines);
        ids.push(...lines.map((line) => JSON.parse(line).event.eventId));
        cursor = piece.cursor;
        if (--pieces === 0) break;
      }
      return { ids, cursor };
    };
    const all = events.map(({ eventId }) => eventId);
    assert.deepEqual((await read({})).ids, all);
    const part = await read({}, 1);
    assert.ok(part.ids.length > 0 && part.ids.length < all.length);
    assert.deepEqual([...part.ids, ...(await read({ cursor: part.cursor })).ids], all);
    const filtered = await read({ filter: { eventTypes: ["b"] } });
    assert.deepEqual(
      filtered.ids,
      events.filter((event) => event.eventType === "b").map(({ eventId }) => eventId),
    );
    await assert.rejects(read({ cursor: part.cursor, filter: { eventTypes: ["b"] } }), ConnectError);
  });
});
