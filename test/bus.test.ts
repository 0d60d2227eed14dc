import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "pino";
import { type Bus, type BusTiming, maxMessageBytes } from "../server/src/bus/bus.ts";
import { createPostgresBus } from "../server/src/bus/postgres.ts";
import { createRedisBus } from "../server/src/bus/redis.ts";
import { createTestDatabase, testLogger } from "./helpers/database.ts";
import { redisIsMissing, startRedis } from "./helpers/redis.ts";

/** What carries a bus, and how to break it. */
interface Carrier extends AsyncDisposable {
  open(timing?: Partial<BusTiming>, logger?: Logger): Promise<Bus>;
  /** Cuts the connections; new ones are welcome. */
  cut(): Promise<void>;
  /** Cuts the connections and refuses new ones until `up`. */
  down(): Promise<void>;
  up(): Promise<void>;
  /** Keeps the connections open and answers nothing on them; returns what ends that. */
  freeze(): Promise<() => void>;
}

async function onPostgres(): Promise<Carrier> {
  const database = await createTestDatabase();
  const { name, superuser } = database;
  const listeners = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
  const cut = async () => {
    await superuser.query(`select pg_terminate_backend(pid) ${listeners}`);
  };
  const allow = async (connections: number) => {
    await superuser.query(`alter database ${name} connection limit ${connections}`);
  };
  return {
    open: (timing, logger = testLogger) => createPostgresBus(database.connection("app"), logger, timing),
    cut,
    async down() {
      await allow(0);
      await cut();
    },
    up: () => allow(-1),
    async freeze() {
      const { rows } = await superuser.query<{ pid: number }>(`select pid ${listeners}`);
      const pids = rows.map(({ pid }) => pid);
      for (const pid of pids) process.kill(pid, "SIGSTOP");
      return () => {
        for (const pid of pids) process.kill(pid, "SIGCONT");
      };
    },
    [Symbol.asyncDispose]: database.drop,
  };
}

async function onRedis(): Promise<Carrier> {
  const redis = await startRedis();
  return {
    open: (timing, logger = testLogger) => createRedisBus(redis.url, logger, timing),
    async cut() {
      await redis.down();
      await redis.up();
    },
    down: redis.down,
    up: redis.up,
    async freeze() {
      const { pid } = redis;
      process.kill(pid, "SIGSTOP");
      return () => process.kill(pid, "SIGCONT");
    },
    [Symbol.asyncDispose]: () => redis[Symbol.asyncDispose](),
  };
}

/** Collects what a channel says. */
function listen(bus: Bus, channel: string) {
  const heard: string[] = [];
  const end = bus.subscribe(channel, (message) => heard.push(message));
  return { heard, end };
}

async function until(what: string, condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `${what}: not within ${timeoutMs} ms`);
    await sleep(5);
  }
}

const missing = await redisIsMissing();

for (const [name, start, skip] of [
  ["PostgreSQL", onPostgres, false],
  ["Redis", onRedis, missing],
] as const) {
  describe(`the bus on ${name}`, { skip }, () => {
    let open: AsyncDisposable[] = [];
    afterEach(async () => {
      const scopes = open.reverse();
      open = [];
      for (const scope of scopes) await scope[Symbol.asyncDispose]();
    });
    const begin = async () => {
      const carrier = await start();
      open.push(carrier);
      return carrier;
    };
    const connect = async (carrier: Carrier, timing?: Partial<BusTiming>, logger?: Logger) => {
      const bus = await carrier.open(timing, logger);
      open.push({ [Symbol.asyncDispose]: () => bus.close() });
      return bus;
    };

    test("a message reaches every subscriber of its channel, the sender's own included, in order", async () => {
      const carrier = await begin();
      const [first, second] = [await connect(carrier), await connect(carrier)];
      const sessions = [listen(first, "sessions"), listen(first, "sessions"), listen(second, "sessions")];
      const keys = listen(second, "keys");
      const messages = Array.from(
        { length: 200 },
        (_, i) => `message ${i} \u{1f680} with 'quotes' and spaces`,
      );
      await Promise.all(messages.map((message) => first.publish("sessions", message)));
      await second.publish("keys", "");
      await until("all messages", () => sessions.every(({ heard }) => heard.length === 200));
      await until("the empty message", () => keys.heard.length === 1);
      for (const { heard } of sessions) assert.deepEqual(heard, messages);
      assert.deepEqual(keys.heard, [""]);
    });

    test("a subscription counts from its call, and ends alone", async () => {
      const bus = await connect(await begin());
      const same: string[] = [];
      const listener = (message: string) => same.push(message);
      const endOne = bus.subscribe("a", listener);
      bus.subscribe("a", listener);
      await bus.publish("a", "1");
      await until("both", () => same.length === 2);
      endOne();
      endOne();
      await bus.publish("a", "2");
      const marker = listen(bus, "b");
      await bus.publish("b", "after");
      await until("the marker", () => marker.heard.length === 1);
      assert.deepEqual(same, ["1", "1", "2"]);
    });

    test("a listener that throws keeps nobody else from hearing", async () => {
      const bus = await connect(await begin());
      bus.subscribe("a", () => {
        throw new Error("a listener's own mistake");
      });
      const { heard } = listen(bus, "a");
      await bus.publish("a", "1");
      await bus.publish("a", "2");
      await until("both", () => heard.length === 2);
    });

    test("the longest message travels, a longer one and a name that is none are refused", async () => {
      const bus = await connect(await begin());
      const { heard } = listen(bus, "long");
      const longest = `${"é".repeat(maxMessageBytes / 2)}`;
      await bus.publish("long", longest);
      await until("the message", () => heard.length === 1);
      assert.equal(heard[0], longest);
      await assert.rejects(bus.publish("long", `${longest}x`), RangeError);
      await assert.rejects(bus.publish("long", "a\0b"), TypeError);
      await assert.rejects(bus.publish("two words", "x"), TypeError);
      assert.throws(() => bus.subscribe("", () => {}), TypeError);
    });

    test("after a cut it connects again, says that there was a gap, and carries on", async () => {
      const carrier = await begin();
      const [first, second] = [await connect(carrier), await connect(carrier)];
      const { heard } = listen(second, "a");
      const gaps = [0, 0];
      const connectedAtGap: boolean[] = [];
      first.onGap(() => {
        gaps[0] = (gaps[0] ?? 0) + 1;
        connectedAtGap.push(first.connected);
      });
      const endGap = second.onGap(() => {
        gaps[1] = (gaps[1] ?? 0) + 1;
      });
      for (let round = 1; round <= 3; round++) {
        await carrier.cut();
        await until(`gap ${round}`, () => gaps.every((count) => count === round));
        await until("connected", () => first.connected && second.connected);
        await first.publish("a", `after ${round}`);
        await until(`message ${round}`, () => heard.at(-1) === `after ${round}`);
      }
      assert.deepEqual(connectedAtGap, [false, false, false]);
      endGap();
      await carrier.cut();
      await until("gap 4", () => gaps[0] === 4);
      await until("connected", () => second.connected);
      assert.equal(gaps[1], 3);
    });

    test("what is published while the line is down is sent when it is back", async () => {
      const carrier = await begin();
      const bus = await connect(carrier, { publishTimeoutMs: 20_000 });
      const { heard } = listen(bus, "a");
      await carrier.down();
      await until("the loss", () => !bus.connected);
      const sent = Array.from({ length: 20 }, (_, i) => bus.publish("a", String(i)));
      await sleep(100);
      assert.deepEqual(heard, []);
      await carrier.up();
      await Promise.all(sent);
      // The receiving line may come back after the sending one: hints may be lost around a gap, never after it.
      await until("connected", () => bus.connected);
      await bus.publish("a", "end");
      await until("the end", () => heard.at(-1) === "end");
    });

    test("where the line stays down, publishing fails in time and says to call again", async () => {
      const carrier = await begin();
      const bus = await connect(carrier, { publishTimeoutMs: 300 });
      await carrier.down();
      try {
        await until("the loss", () => !bus.connected);
        const started = performance.now();
        await assert.rejects(bus.publish("a", "1"), /call again/);
        const took = performance.now() - started;
        assert.ok(took >= 250 && took < 3_000, `${took} ms`);
      } finally {
        await carrier.up();
      }
    });

    test("a line that falls silent without ending is noticed", async () => {
      const carrier = await begin();
      const bus = await connect(carrier, { heartbeatMs: 50, silenceMs: 300 });
      let gaps = 0;
      bus.onGap(() => {
        gaps++;
      });
      const thaw = await carrier.freeze();
      try {
        await until("the loss", () => !bus.connected);
      } finally {
        thaw();
      }
      await until("the gap", () => gaps === 1);
      const { heard } = listen(bus, "a");
      await until("connected", () => bus.connected);
      await bus.publish("a", "again");
      await until("the message", () => heard.length === 1);
    });

    test("a closed bus sends nothing, waits for nothing and stays closed", async () => {
      const carrier = await begin();
      const bus = await connect(carrier);
      let gaps = 0;
      bus.onGap(() => {
        gaps++;
      });
      await carrier.down();
      await until("the loss", () => !bus.connected);
      const waiting = assert.rejects(bus.publish("a", "1"), /shutting down/);
      const started = performance.now();
      await bus.close();
      await waiting;
      assert.ok(performance.now() - started < 2_000);
      await carrier.up();
      await assert.rejects(bus.publish("a", "2"), /shutting down/);
      await bus.close();
      assert.equal(gaps, 0);
    });
  });
}

test("where Redis cannot be reached the start fails without showing the password", async () => {
  const url = "redis://:hidden-password@127.0.0.1:1";
  await assert.rejects(createRedisBus(url, testLogger), (error: Error) => {
    assert.match(error.message, /^REDIS_URL: Redis cannot be reached/);
    assert.ok(!error.message.includes("hidden"));
    return true;
  });
});
