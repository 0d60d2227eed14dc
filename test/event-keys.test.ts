import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { OutcomeStatus } from "../server/src/gen/pulsewire/common/v1/outcome_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { forgetKeys } from "../server/src/ingestion/forget-keys.ts";
import { eventKey } from "../server/src/ingestion/words.ts";
import { grpcSession, serve, startTestServer, type TestServer } from "./helpers/server.ts";

const dayMs = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * dayMs);

/** A UUIDv7 of a moment. */
function idOf(moment: Date): string {
  const hex = moment.getTime().toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7${randomUUID().slice(15)}`;
}

describe("the keys of events", () => {
  let server: TestServer;
  before(async () => {
    server = await startTestServer();
  });
  after(() => server.stop());

  const placesOf = async (ids: readonly string[]) => {
    const { rows } = await server.database.superuser.query<{ key: string; place: string }>(
      "select key, tableoid::regclass::text as place from pulsewire.event_keys where key = any($1)",
      [ids.map(eventKey)],
    );
    const places = new Map(rows.map(({ key, place }) => [key, place.replace("pulsewire.", "")]));
    return ids.map((id) => places.get(eventKey(id)));
  };
  const send = async (ids: readonly string[], url = server.url) => {
    using session = grpcSession(url, { "x-api-key": server.tenant.apiKey });
    const events = ids.map((eventId) => ({ eventId, eventType: "t" }));
    const { outcomes } = await createClient(IngestionService, session.transport).ingestEvents({ events });
    return outcomes.map(({ status }) => OutcomeStatus[status]);
  };
  /** Makes keys look as if their events had been received at another time. */
  const receivedAt = (ids: readonly string[], moment: Date) =>
    server.database.superuser.query("update pulsewire.event_keys set event_row = $2 where key = any($1)", [
      ids.map(eventKey),
      idOf(moment),
    ]);

  test("ids with a time lie by the week, others by their hash, and those out of reach in the rest", async () => {
    const [now, old, far] = [idOf(new Date()), idOf(ago(400)), idOf(new Date("9999-01-01"))];
    const [text, other] = ["order-4711", randomUUID()];
    assert.deepEqual(await send([now, old, far, text, other]), Array(5).fill("ACCEPTED"));
    const places = await placesOf([now, old, far, text, other]);
    assert.match(places[0] ?? "", /^event_keys_\d{8}$/);
    assert.deepEqual(places.slice(1), [
      "event_keys_default",
      "event_keys_default",
      "event_keys_hashed",
      "event_keys_hashed",
    ]);
    assert.deepEqual(await send([now, old, far, text, other]), Array(5).fill("DUPLICATE"));
  });

  test("are forgotten after their time and no sooner, whatever time the ids bear", async () => {
    const { superuser } = server.database;
    const week = ago(50);
    const day = new Date(Date.UTC(week.getUTCFullYear(), week.getUTCMonth(), week.getUTCDate()));
    await superuser.query("select pulsewire.ensure_partitions('event_keys', $1, $1)", [day]);
    const [gone, late] = [idOf(week), idOf(week)];
    const [oldText, newText, oldFar, newFar] = [randomUUID(), randomUUID(), idOf(ago(500)), idOf(ago(500))];
    const ids = [gone, late, oldText, newText, oldFar, newFar];
    assert.deepEqual(await send(ids), Array(6).fill("ACCEPTED"));
    const [home] = await placesOf([gone]);
    assert.match(home ?? "", /^event_keys_\d{8}$/);
    await receivedAt([gone, oldText, oldFar], ago(34));
    await receivedAt([late, newText, newFar], ago(32));

    await forgetKeys(server.context.db, ago(33));
    const { rows } = await superuser.query("select to_regclass($1) as name", [`pulsewire.${home}`]);
    assert.equal(rows[0].name, null, "the week is dropped");
    assert.deepEqual(await placesOf(ids), [
      undefined,
      "event_keys_default",
      undefined,
      "event_keys_hashed",
      undefined,
      "event_keys_default",
    ]);
    assert.deepEqual(await send(ids), [
      "ACCEPTED",
      "DUPLICATE",
      "ACCEPTED",
      "DUPLICATE",
      "ACCEPTED",
      "DUPLICATE",
    ]);
  });

  test("cannot be made to be forgotten within 32 days", async () => {
    const { db, pool } = { db: server.context.db, pool: server.database.app.pool };
    await assert.rejects(forgetKeys(db, ago(31)), /kept for 32 days/);
    const sweep = pool.query("select sweep_event_keys('event_keys_hashed', $1, 0, 1)", [ago(31)]);
    await assert.rejects(sweep, /not to be swept/);
    const other = pool.query("select sweep_event_keys('events_default', $1, 0, 1)", [ago(40)]);
    await assert.rejects(other, /not to be swept/);
  });

  test("tell duplicates across processes that write at the same time, without a deadlock", async () => {
    await using second = await serve(server.database);
    const ids = Array.from({ length: 400 }, (_, index) => (index % 2 ? `pair-${index}` : idOf(new Date())));
    const shuffled = () => ids.toSorted(() => Math.random() - 0.5);
    const sent = Array.from({ length: 12 }, (_, index) => ({
      ids: shuffled(),
      url: index % 2 ? server.url : second.url,
    }));
    const answers = await Promise.all(sent.map((call) => send(call.ids, call.url)));
    const accepted = new Map<string, number>();
    answers.forEach((statuses, call) => {
      statuses.forEach((status, index) => {
        assert.ok(status === "ACCEPTED" || status === "DUPLICATE", status);
        const id = sent[call]?.ids[index] ?? "";
        if (status === "ACCEPTED") accepted.set(id, (accepted.get(id) ?? 0) + 1);
      });
    });
    assert.deepEqual([...accepted.values()], Array(ids.length).fill(1));
  });
});
