import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Code } from "@connectrpc/connect";
import fc from "fast-check";
import type { Place } from "../sdk/src/backlog.ts";
import { Batcher } from "../sdk/src/batcher.ts";
import type { BatcherOptions } from "../sdk/src/batcher-options.ts";
import { Breaker } from "../sdk/src/breaker.ts";
import { Fifo } from "../sdk/src/fifo.ts";
import { defaultRetryPolicy, PulsewireError, sleep } from "../sdk/src/index.ts";
import { accepted, type FinalOutcome, type SendOutcome } from "../sdk/src/outcome.ts";
import type { Item } from "../sdk/src/queue.ts";

const fast = { ...defaultRetryPolicy, initialDelayMs: 10 };

class Numbered implements Item {
  readonly number: number;
  readonly size: number;
  readonly priority: number;
  sequence = 0;
  place: Place | undefined = undefined;

  constructor(number: number, size: number, priority = 1) {
    this.number = number;
    this.size = size;
    this.priority = priority;
  }
}

/** A batcher whose items are numbers. */
class NumberBatcher {
  readonly batcher: Batcher<Numbered>;

  constructor(options: BatcherOptions<Numbered>, breaker: Breaker) {
    this.batcher = new Batcher(options, breaker);
  }

  add(number: number, size: number, priority = 1) {
    return this.batcher.add(new Numbered(number, size, priority));
  }

  watch(number: number) {
    return this.batcher.watch(new Numbered(number, 1));
  }

  get counts() {
    return this.batcher.counts;
  }

  flush(deadlineMs?: number) {
    return this.batcher.flush(deadlineMs);
  }

  close(deadlineMs: number) {
    return this.batcher.close(deadlineMs);
  }
}

describe("batcher", () => {
  /** A batcher of numbers whose sends wait until they are answered by the test. */
  function makeBatcher(
    options: Partial<BatcherOptions<Numbered>> = {},
    breaker = new Breaker(options.retry ?? fast),
  ) {
    const sent: { items: number[]; answer(outcomes?: SendOutcome[]): void; fail(error: unknown): void }[] =
      [];
    const settled: [number, FinalOutcome["status"]][] = [];
    const batcher = new NumberBatcher(
      {
        send: (items, signal) =>
          new Promise((resolve, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason));
            sent.push({
              items: items.map(({ number }) => number),
              answer: (outcomes = items.map(() => accepted)) => resolve(outcomes),
              fail: reject,
            });
          }),
        onOutcome: ({ number }, { status }) => settled.push([number, status]),
        maxItems: 3,
        maxBytes: 100,
        maxDelayMs: 1_000,
        maxInFlight: 2,
        maxQueueItems: 10,
        maxQueueBytes: 1000,
        whenFull: "throw",
        retry: fast,
        ...options,
      },
      breaker,
    );
    return { batcher, sent, settled, breaker };
  }
  const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const unavailable = (delayMs?: number) =>
    new PulsewireError({ code: Code.Unavailable, message: "down", retryDelayMs: delayMs });

  test("sends when a batch is full in items or in bytes, and keeps the order", async () => {
    const { batcher, sent } = makeBatcher();
    for (const item of [1, 2, 3, 4]) batcher.add(item, 1);
    await turn();
    assert.deepEqual(
      sent.map(({ items }) => items),
      [[1, 2, 3]],
    );
    batcher.add(5, 99);
    await turn();
    assert.deepEqual(sent[1]?.items, [4, 5]);
    for (const { answer } of sent) answer();
    await batcher.close(1000);
  });

  test("sends what there is after the delay", async (t) => {
    t.mock.timers.enable({ apis: ["setTimeout"] });
    const { batcher, sent } = makeBatcher({ maxDelayMs: 50 });
    batcher.add(1, 1);
    t.mock.timers.tick(49);
    assert.equal(sent.length, 0);
    t.mock.timers.tick(1);
    assert.deepEqual(sent[0]?.items, [1]);
    sent[0]?.answer();
  });

  test("holds no more than allowed in flight", async () => {
    const { batcher, sent } = makeBatcher();
    for (let item = 1; item <= 9; item++) batcher.add(item, 1);
    await turn();
    assert.equal(sent.length, 2);
    sent[0]?.answer();
    await turn();
    assert.equal(sent.length, 3);
    for (const { answer } of sent) answer();
    await batcher.flush();
    assert.equal(batcher.counts.accepted, 9);
  });

  test("sends only the items again that the server asks for", async () => {
    const { batcher, sent, settled } = makeBatcher();
    for (const item of [1, 2, 3]) batcher.add(item, 1);
    await turn();
    sent[0]?.answer([
      { status: "retry", delayMs: 1 },
      { status: "rejected", code: "string.min_len" },
      { status: "duplicate" },
    ]);
    const flushed = batcher.flush();
    while (sent.length < 2) await turn();
    assert.deepEqual(sent[1]?.items, [1]);
    sent[1]?.answer();
    await flushed;
    assert.deepEqual(settled, [
      [2, "rejected"],
      [3, "duplicate"],
      [1, "accepted"],
    ]);
    const { queued, accepted: taken, duplicate, rejected, pending, retried } = batcher.counts;
    assert.deepEqual([queued, taken, duplicate, rejected, pending, retried], [3, 1, 1, 1, 0, 1]);
  });

  test("after a failure one batch probes alone, and all follow when it has gone through", async () => {
    const { batcher, sent } = makeBatcher();
    for (let item = 1; item <= 9; item++) batcher.add(item, 1);
    await turn();
    const flushed = batcher.flush();
    for (const { fail } of sent.splice(0)) fail(unavailable());
    while (sent.length < 1) await turn();
    await sleep(30);
    assert.deepEqual(
      sent.map(({ items }) => items),
      [[1, 2, 3]],
    );
    sent[0]?.answer();
    await turn();
    assert.equal(sent.length, 3);
    sent[1]?.answer();
    sent[2]?.answer();
    await flushed;
    assert.equal(batcher.counts.accepted, 9);
    assert.equal(batcher.counts.retried, 6);
  });

  test("gives up what no repetition makes right, and after the allowed attempts", async () => {
    const { batcher, sent } = makeBatcher({
      retry: { ...defaultRetryPolicy, maxAttempts: 2, initialDelayMs: 1 },
    });
    for (const item of [1, 2, 3]) batcher.add(item, 1);
    await turn();
    sent[0]?.fail(
      new PulsewireError({ code: Code.Unauthenticated, reason: "INVALID_API_KEY", message: "no" }),
    );
    await turn();
    for (const item of [4, 5, 6]) batcher.add(item, 1);
    await turn();
    sent[1]?.fail(unavailable());
    while (sent.length < 3) await turn();
    sent[2]?.fail(unavailable());
    await batcher.flush();
    assert.deepEqual(batcher.counts.dropped, { INVALID_API_KEY: 3, attempts: 3 });
  });

  test("halves a batch that is too large for the server", async () => {
    const { batcher, sent } = makeBatcher();
    for (const item of [1, 2, 3]) batcher.add(item, 1);
    await turn();
    sent[0]?.fail(
      new PulsewireError({ code: Code.ResourceExhausted, reason: "MESSAGE_TOO_LARGE", message: "large" }),
    );
    await turn();
    assert.deepEqual(
      sent.slice(1).map(({ items }) => items),
      [[1, 2], [3]],
    );
    for (const { answer } of sent) answer();
    await batcher.flush();
    assert.equal(batcher.counts.accepted, 3);
  });

  test("a wrong number of outcomes is no success", async () => {
    const { batcher, sent } = makeBatcher();
    for (const item of [1, 2, 3]) batcher.add(item, 1);
    await turn();
    sent[0]?.answer([accepted]);
    await turn();
    assert.deepEqual([batcher.counts.accepted, batcher.counts.pending], [0, 3]);
    while (sent.length < 2) await turn();
    assert.deepEqual(sent[1]?.items, [1, 2, 3]);
    sent[1]?.answer();
    await batcher.flush();
    assert.equal(batcher.counts.accepted, 3);
  });

  test("first in is first out, whatever comes and goes meanwhile", () => {
    const steps = fc.array(fc.integer({ min: -5_000, max: 5_000 }), { maxLength: 30 });
    fc.assert(
      fc.property(steps, (amounts) => {
        const fifo = new Fifo<number>();
        let [added, taken] = [0, 0];
        for (const amount of amounts) {
          for (let count = 0; count < amount; count++) fifo.push(added++);
          for (let count = 0; count > amount && taken < added; count--) assert.equal(fifo.shift(), taken++);
          assert.equal(fifo.length, added - taken);
          assert.equal(fifo.peek(), taken < added ? taken : undefined);
        }
      }),
      { numRuns: 50 },
    );
    assert.equal(new Fifo().shift(), undefined);
  });

  test("full queue: throws, drops and counts, or waits", async () => {
    const full = { maxQueueItems: 2, maxItems: 10 };
    const throwing = makeBatcher(full);
    throwing.batcher.add(1, 1);
    throwing.batcher.add(2, 1);
    assert.throws(() => throwing.batcher.add(3, 1), { name: "QueueFullError", message: /2 of 2 items/ });
    assert.throws(() => throwing.batcher.add(3, 1001), { name: "QueueFullError", message: /never fit/ });
    assert.equal(throwing.batcher.counts.queued, 2);

    const dropping = makeBatcher({ ...full, whenFull: "drop-newest" });
    for (const item of [1, 2, 3]) assert.equal(dropping.batcher.add(item, 1), undefined);
    assert.deepEqual(dropping.batcher.counts.dropped, { queue_full: 1 });
    assert.deepEqual(dropping.settled, [[3, "dropped"]]);

    const waiting = makeBatcher({ ...full, whenFull: "wait" });
    for (const item of [1, 2]) assert.equal(waiting.batcher.add(item, 1), undefined);
    const third = waiting.batcher.add(3, 1);
    const fourth = waiting.batcher.add(4, 1);
    void waiting.batcher.flush();
    await turn();
    waiting.sent[0]?.answer();
    await Promise.all([third, fourth]);
    assert.equal(waiting.batcher.counts.queued, 4);
    const fifth = waiting.batcher.add(5, 1);
    const refused = assert.rejects(async () => fifth, { name: "GatewayClosedError" });
    await waiting.batcher.close(1);
    await refused;
    for (const { batcher } of [throwing, dropping]) await batcher.close(1);
  });

  test("concurrent flushes share a promise; a later one waits for what came later", async () => {
    const { batcher, sent } = makeBatcher();
    let flushed = 0;
    const flush = () => batcher.flush().then(() => flushed++);
    batcher.add(1, 1);
    const first = Promise.all([flush(), flush()]);
    await turn();
    batcher.add(2, 1);
    const second = flush();
    await turn();
    assert.deepEqual(
      sent.map(({ items }) => items),
      [[1], [2]],
    );
    sent[0]?.answer();
    await first;
    await turn();
    assert.equal(flushed, 2);
    sent[1]?.answer();
    await second;
    await batcher.flush();
  });

  test("flush ends at its deadline and leaves what is pending", async () => {
    const { batcher, sent } = makeBatcher();
    batcher.add(1, 1);
    await batcher.flush(5);
    assert.equal(batcher.counts.pending, 1);
    sent[0]?.answer();
    await batcher.flush();
    assert.equal(batcher.counts.pending, 0);
  });

  test("close ends at its deadline, drops the rest with a reason, and takes nothing more", async () => {
    const { batcher, sent } = makeBatcher();
    for (let item = 1; item <= 10; item++) batcher.add(item, 1);
    await turn();
    sent[0]?.answer();
    await Promise.all([batcher.close(20), batcher.close(20)]);
    assert.equal(batcher.counts.accepted, 3);
    assert.deepEqual(batcher.counts.dropped, { closed: 7 });
    assert.equal(batcher.counts.pending, 0);
    assert.throws(() => batcher.add(11, 1), { name: "GatewayClosedError" });
  });
});
