import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { GroupCommit, type GroupCommitOptions } from "../server/src/db/group-commit.ts";
import { RetryInfoSchema } from "../server/src/gen/google/rpc/error_details_pb.js";

/** A group commit whose flushes end when they are let go, one after another. */
function held(options: Partial<GroupCommitOptions<string, string>> = {}) {
  const flushes: string[][] = [];
  const gates: (() => void)[] = [];
  const commits = new GroupCommit<string, string>({
    async flush(submissions) {
      flushes.push(submissions.flatMap(({ rows }) => rows));
      await new Promise<void>((resolve) => gates.push(resolve));
      for (const submission of submissions) submission.results = submission.rows;
    },
    maxRowsPerFlush: 3,
    maxFlushes: 1,
    maxQueuedRows: 10,
    ...options,
  });
  /** Lets the flush that waits end, and the next one begin. */
  const letGo = async () => {
    gates.shift()?.();
    await turn();
    await turn();
  };
  return { commits, flushes, letGo };
}

function refusalOf(submit: () => unknown): { code: string; delayMs: number } {
  try {
    submit();
  } catch (error) {
    const refusal = ConnectError.from(error);
    const [info] = refusal.findDetails(RetryInfoSchema);
    return { code: refusal.rawMessage, delayMs: info?.retryDelay ? durationMs(info.retryDelay) : 0 };
  }
  return assert.fail("not refused");
}

describe("group commit", () => {
  test("calls that wait share a flush, up to its size, and each gets its own results", async () => {
    const { commits, flushes, letGo } = held();
    const first = commits.submit("t", ["first"]);
    await turn();
    await turn();
    const calls = [["a"], ["b", "c"], ["d"]].map((rows) => commits.submit("t", rows));
    await letGo();
    await letGo();
    await letGo();
    assert.deepEqual(await Promise.all([first, ...calls]), [["first"], ["a"], ["b", "c"], ["d"]]);
    assert.deepEqual(flushes, [["first"], ["a", "b", "c"], ["d"]]);
  });

  test("what is urgent goes first, unless something has waited too long", async (t) => {
    t.mock.method(performance, "now", () => now);
    let now = 1_000;
    const { commits, flushes, letGo } = held({ maxRowsPerFlush: 1 });
    const calls = [commits.submit("t", ["first"])];
    await turn();
    await turn();
    for (const [row, priority] of [
      ["low", 1],
      ["high", 9],
      ["middle", 5],
      ["high too", 9],
    ] as const) {
      calls.push(commits.submit("t", [row], { priority }));
    }
    await letGo();
    now += 2_500;
    calls.push(commits.submit("t", ["urgent"], { priority: 10 }));
    for (let flush = 0; flush < 6; flush++) await letGo();
    await Promise.all(calls);
    assert.deepEqual(flushes.flat(), ["first", "high", "low", "middle", "high too", "urgent"]);
  });

  test("tenants have their turns, whoever sent first and most", async () => {
    const { commits, flushes, letGo } = held({ maxRowsPerFlush: 4, maxQueuedRows: 100 });
    const calls = [commits.submit("loud", ["first"])];
    await turn();
    await turn();
    for (let index = 0; index < 8; index++) calls.push(commits.submit("loud", [`loud ${index}`]));
    calls.push(commits.submit("calm", ["calm 0"]), commits.submit("calm", ["calm 1"]));
    calls.push(commits.submit("large", ["a", "b", "c", "d", "e"]));
    for (let flush = 0; flush < 6; flush++) await letGo();
    await Promise.all(calls);
    assert.deepEqual(flushes, [
      ["first"],
      ["loud 0", "loud 1", "calm 0", "calm 1"],
      ["a", "b", "c", "d", "e"],
      ["loud 2", "loud 3", "loud 4", "loud 5"],
      ["loud 6", "loud 7"],
    ]);
  });

  test("the last part of the queue is kept for what is urgent", async () => {
    const { commits, letGo } = held({ maxRowsPerFlush: 100 });
    const calls = [commits.submit("t", ["first"])];
    await turn();
    await turn();
    const rows = (count: number) => Array.from({ length: count }, () => "x");
    calls.push(commits.submit("t", rows(4), { priority: 1 }));
    assert.match(
      refusalOf(() => commits.submit("t", rows(2), { priority: 1 })).code,
      /more to write than it can hold/,
    );
    calls.push(commits.submit("t", rows(3), { priority: 6 }));
    refusalOf(() => commits.submit("t", rows(1), { priority: 5 }));
    calls.push(commits.submit("t", rows(3), { priority: 10 }));
    refusalOf(() => commits.submit("t", rows(1), { priority: 10 }));
    assert.equal(commits.room(10), 0);
    await letGo();
    await letGo();
    await Promise.all(calls);
    assert.equal(commits.room(1), Number.POSITIVE_INFINITY);
  });

  test("bytes are bounded, too; an empty queue takes any", async () => {
    const { commits, letGo } = held({ maxQueuedBytes: 1_000 });
    const calls = [commits.submit("t", ["first"], { bytes: 5_000 })];
    await turn();
    await turn();
    calls.push(commits.submit("t", ["a"], { bytes: 900 }));
    const { delayMs } = refusalOf(() => commits.submit("t", ["b"], { bytes: 200 }));
    assert.ok(delayMs > 0);
    calls.push(commits.submit("t", ["c"], { bytes: 100 }));
    await letGo();
    await letGo();
    await Promise.all(calls);
    calls.push(commits.submit("t", ["d"], { bytes: 5_000 }));
    await turn();
    await turn();
    await letGo();
    await Promise.all(calls);
  });

  test("who is refused is told when the queue will have been written at the rate of late", async (t) => {
    let now = 1_000;
    t.mock.method(performance, "now", () => now);
    const { commits, letGo } = held({ maxRowsPerFlush: 100, maxQueuedRows: 100 });
    const calls: Promise<unknown>[] = [];
    const hundred = Array.from({ length: 100 }, () => "x");
    for (let flush = 0; flush < 30; flush++) {
      calls.push(commits.submit("t", hundred));
      await turn();
      await turn();
      now += 1_000;
      await letGo();
    }
    // A time in which nothing was to be written does not count.
    now += 60_000;
    // 100 rows a second: with as many waiting, from a quarter of a second to all of it.
    calls.push(commits.submit("t", ["under way"]));
    await turn();
    await turn();
    calls.push(commits.submit("t", hundred));
    for (let time = 0; time < 20; time++) {
      const { delayMs } = refusalOf(() => commits.submit("t", ["x"]));
      // And what the refused ones before will bring.
      assert.ok(delayMs >= 200 && delayMs <= 1_250, String(delayMs));
    }
    await letGo();
    await letGo();
    await Promise.all(calls);
  });

  test("a row that the database refuses harms its own call only", async () => {
    const written: string[] = [];
    const commits = new GroupCommit<string, string>({
      async flush(submissions) {
        const rows = submissions.flatMap((each) => each.rows);
        if (rows.includes("bad"))
          throw Object.assign(new Error("invalid"), { code: "22000", severity: "ERROR" });
        written.push(...rows);
        for (const submission of submissions) submission.results = submission.rows;
      },
      maxRowsPerFlush: 10,
      maxFlushes: 1,
      maxQueuedRows: 100,
    });
    const calls = await Promise.allSettled([["a"], ["bad"], ["b"]].map((rows) => commits.submit("t", rows)));
    assert.deepEqual(
      calls.map(({ status }) => status),
      ["fulfilled", "rejected", "fulfilled"],
    );
    assert.deepEqual(written, ["a", "b"]);
  });
});
