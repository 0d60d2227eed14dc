import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { OutcomeStatus } from "../server/src/gen/pulsewire/common/v1/outcome_pb.js";
import type { StreamEventsResponse } from "../server/src/gen/pulsewire/ingestion/v1/event_pb.js";
import { IngestionService } from "../server/src/gen/pulsewire/ingestion/v1/ingestion_service_pb.js";
import { assertFails } from "./helpers/errors.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

type Request = {
  sequence: bigint;
  events: { eventId?: string; eventType: string }[];
  allowPartial?: boolean;
};

/** A batch of one event for each type. */
const batch = (sequence: number, ...types: string[]): Request => ({
  sequence: BigInt(sequence),
  events: types.map((eventType, index) => ({ eventId: `s${sequence}-${index}`, eventType })),
});

async function* sendAll(requests: Iterable<Request>): AsyncGenerator<Request> {
  yield* requests;
}

const statusesOf = ({ outcomes }: StreamEventsResponse) =>
  outcomes.map(({ status }) => OutcomeStatus[status]);

describe("a stream of batches", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let ingestion: Client<typeof IngestionService>;

  before(async () => {
    server = await startTestServer({ PULSEWIRE_MAX_BATCH_EVENTS: "3", PULSEWIRE_STREAM_WINDOW: "4" });
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
    ingestion = createClient(IngestionService, session.transport);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  async function collect(requests: AsyncIterable<Request>): Promise<StreamEventsResponse[]> {
    const answers: StreamEventsResponse[] = [];
    for await (const answer of ingestion.streamEvents(requests)) answers.push(answer);
    return answers;
  }

  test("acknowledges each batch, in order", async () => {
    const answers = await collect(
      sendAll(Array.from({ length: 50 }, (_, index) => batch(index + 1, "a", "b"))),
    );
    assert.deepEqual(
      answers.map(({ sequence }) => Number(sequence)),
      Array.from({ length: 50 }, (_, index) => index + 1),
    );
    for (const answer of answers) {
      assert.deepEqual([answer.counts?.total, answer.counts?.accepted, answer.window], [2, 2, 4]);
    }
    const again = await collect(sendAll([batch(1, "a", "b"), batch(2, "a", "other")]));
    assert.deepEqual(again.map(statusesOf), [
      ["DUPLICATE", "DUPLICATE"],
      ["DUPLICATE", "CONFLICT"],
    ]);
  });

  test("a refused batch has outcomes, and the stream goes on", async () => {
    const own = (sequence: number, name: string, ...types: string[]): Request => ({
      sequence: BigInt(sequence),
      events: types.map((eventType, index) => ({ eventId: `${name}-${index}`, eventType })),
    });
    const [broken, partial, large, good] = await collect(
      sendAll([
        own(1, "broken", "a", ""),
        { ...own(2, "partial", "", "b"), allowPartial: true },
        own(3, "large", "a", "b", "c", "d"),
        own(4, "good", "a"),
      ]),
    );
    assert.ok(broken && partial && large && good);
    assert.deepEqual(statusesOf(broken), ["RETRY", "REJECTED"]);
    assert.deepEqual(broken.outcomes.map(({ field, code }) => [field, code])[1], [
      "event_type",
      "string.min_len",
    ]);
    assert.match(broken.outcomes[0]?.message ?? "", /another event of the batch is broken/);
    assert.deepEqual(statusesOf(partial), ["REJECTED", "ACCEPTED"]);
    assert.deepEqual(statusesOf(large), Array(4).fill("REJECTED"));
    assert.equal(large.outcomes[0]?.code, "repeated.max_items");
    assert.deepEqual(statusesOf(good), ["ACCEPTED"]);
    await assertFails(ingestion.getEvent({ eventId: "broken-0" }), Code.NotFound, "NOT_FOUND");
    await assertFails(ingestion.getEvent({ eventId: "large-0" }), Code.NotFound, "NOT_FOUND");
  });

  test("a sequence that does not grow by one ends the stream after what came before", async () => {
    const answers: bigint[] = [];
    const failed = async () => {
      const requests = sendAll([batch(1, "x"), batch(2, "x"), batch(4, "x")]);
      for await (const { sequence } of ingestion.streamEvents(requests)) answers.push(sequence);
    };
    const { fields } = await assertFails(failed(), Code.InvalidArgument, "INVALID_FIELD");
    assert.deepEqual(fields, ["sequence"]);
    assert.deepEqual(answers, [1n, 2n]);
  });

  test("while nothing can be written, no more than the window is read, and nothing is lost", async () => {
    const { superuser } = server.database;
    const padding = "x".repeat(200_000);
    let sent = 0;
    async function* endless() {
      for (let sequence = 1; sequence <= 60; sequence++) {
        sent = sequence;
        yield {
          sequence: BigInt(sequence),
          events: [{ eventId: `flow-${sequence}`, eventType: "flow", payload: { padding } }],
        };
      }
    }
    await superuser.query("begin; lock table pulsewire.event_keys in access exclusive mode");
    const answers = collect(endless());
    // What is under way fills the window and the buffers of the connection; then the sender has to wait.
    for (let before = -1; sent !== before || sent === 0; ) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    assert.ok(sent < 60, `${sent} batches of 60 were taken`);
    await superuser.query("commit");
    assert.deepEqual(
      (await answers).map(({ counts }) => counts?.accepted),
      Array(60).fill(1),
    );
  });
});

test("a drained server acknowledges what it has read and ends the stream", async () => {
  await using server = await startTestServer();
  using session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  const ingestion = createClient(IngestionService, session.transport);
  const goOn = Promise.withResolvers<void>();
  async function* requests() {
    yield batch(1, "a");
    await goOn.promise;
  }
  const answers: bigint[] = [];
  const acknowledged = Promise.withResolvers<void>();
  const failed = (async () => {
    for await (const { sequence } of ingestion.streamEvents(requests())) {
      answers.push(sequence);
      acknowledged.resolve();
    }
  })().catch((error: unknown) => ConnectError.from(error));
  await acknowledged.promise;
  const stopped = server.stop();
  const error = await failed;
  assert.equal(error?.code, Code.Unavailable);
  assert.deepEqual(answers, [1n]);
  goOn.resolve();
  await stopped;
});
