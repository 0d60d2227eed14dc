import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, createClient } from "@connectrpc/connect";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { startKafka, type TestKafka } from "../helpers/kafka.ts";
import { withKey } from "../helpers/platform.ts";
import { grpcSession, serve, settingsFor, startTestServer, type TestServer } from "../helpers/server.ts";
import { startServerProcess } from "../helpers/server-process.ts";

const partitions = 6;
const clientKrn = "krn:first:client:kafka";
const email = "stream-processor@first.example";
/** Reports of the load, and how often a process is killed; see `run.ts`. */
const loadSize = Number(process.env.PULSEWIRE_KAFKA_LOAD ?? 6_000);
const kills = loadSize < 6_000 ? 1 : 3;

let kafka: TestKafka;
let server: TestServer;
let session: ReturnType<typeof grpcSession>;
let progress: Client<typeof ProgressService>;
let as: ReturnType<typeof withKey>;

before(async () => {
  [kafka, server] = await Promise.all([startKafka(), startTestServer()]);
  session = grpcSession(server.url);
  progress = createClient(ProgressService, session.transport);
  as = withKey(server.tenant.apiKey);
});
after(async () => {
  session[Symbol.dispose]();
  await server.stop();
  await kafka[Symbol.asyncDispose]();
});

async function newTopic(): Promise<string> {
  const topic = `progress-${randomUUID()}`;
  await kafka.createTopic(topic, partitions);
  return topic;
}

const settingsOf = (topic: string, clients = "krn:first:client:*") => ({
  PULSEWIRE_KAFKA_BROKERS: kafka.brokers,
  PULSEWIRE_KAFKA_TOPIC: topic,
  PULSEWIRE_KAFKA_GROUP: `group-${topic}`,
  PULSEWIRE_KAFKA_CLIENTS: clients,
});

const doneOf = (filename: string) =>
  progress.getProgress({ clientKrn, filename }, as).then(
    ({ progress: file }) => Number(file?.counts?.done ?? 0n),
    () => 0,
  );

async function until(condition: () => Promise<boolean> | boolean, what: string, timeoutMs = 60_000) {
  for (const end = Date.now() + timeoutMs; !(await condition()); await sleep(50)) {
    assert.ok(Date.now() < end, `not within ${timeoutMs} ms: ${what}`);
  }
}

const report = (filename: string, rest: object = {}) =>
  JSON.stringify({ clientKrn, email, filename, counts: { done: 1, warn: 0, failed: 0 }, ...rest });

describe("progress from Kafka", () => {
  test("over TLS, with an account: not where the certificate is unknown or the password wrong", async () => {
    const topic = await newTopic();
    const filename = "signed-in.csv";
    await kafka.produce(topic, [report(filename)]);
    const settings = {
      ...settingsFor(server.database),
      ...settingsOf(topic),
      PULSEWIRE_ROLE: "worker",
      PULSEWIRE_KAFKA_BROKERS: kafka.secureBrokers,
      PULSEWIRE_KAFKA_TLS: "on",
      PULSEWIRE_KAFKA_USERNAME: kafka.account.username,
      PULSEWIRE_KAFKA_PASSWORD: kafka.account.password,
    };
    const trusting = { ...settings, NODE_EXTRA_CA_CERTS: kafka.caFile };
    {
      await using _distrustful = await startServerProcess(settings);
      await using _stranger = await startServerProcess({ ...trusting, PULSEWIRE_KAFKA_PASSWORD: "wrong" });
      await sleep(2_000);
      assert.equal(await doneOf(filename), 0);
    }
    for (const [index, mechanism] of ["PLAIN", "SCRAM-SHA-512"].entries()) {
      if (index > 0) await kafka.produce(topic, [report(filename)]);
      // Each in a group of its own, which reads from the beginning: what was counted counts once.
      const own = { PULSEWIRE_KAFKA_SASL: mechanism, PULSEWIRE_KAFKA_GROUP: `${mechanism}-${topic}` };
      await using _worker = await startServerProcess({ ...trusting, ...own });
      await until(async () => (await doneOf(filename)) === index + 1, `${mechanism} signs in`);
    }
  });

  test("messages as Pebbles documents them count, with offsets committed and no lag", async () => {
    const topic = await newTopic();
    await using worker = await serve(server.database, settingsOf(topic));
    const filename = "realtime_data.csv";
    const message = { counts: { done: 5000, warn: 10, failed: 5 }, isLast: false };
    await kafka.produce(topic, [report(filename, message)]);
    await until(async () => (await doneOf(filename)) === 5_000, "the message counts");
    const { progress: file } = await progress.getProgress({ clientKrn, filename }, as);
    assert.equal(file?.email, email);
    assert.equal(file?.isCompleted, false);
    await kafka.produce(topic, [report(filename, { errors: [{ line: 567, message: "Invalid format" }] })]);
    await until(async () => (await doneOf(filename)) === 5_001, "the second message counts");
    const { errors } = await progress.getProgress({ clientKrn, filename }, as);
    assert.deepEqual(
      errors.map(({ line }) => Number(line)),
      [567],
    );
    await until(async () => {
      const offsets = await kafka.committed(`group-${topic}`, topic, partitions);
      return offsets.reduce((sum, offset) => sum + Math.max(0, offset), 0) === 2;
    }, "both offsets are committed");
    const figures = () => worker.context.progressIntake.list()[0];
    await until(() => figures()?.lag === 0, "the lag is known", 15_000);
    assert.equal(figures()?.counted, 2);
    assert.equal(figures()?.errors, 0);
  });

  test("what cannot be counted is put aside with its reason, and holds up nothing", async () => {
    const topic = await newTopic();
    await server.register("stranger");
    await using worker = await serve(server.database, settingsOf(topic, `${clientKrn},krn:nobody:client:*`));
    const filename = `poison-${randomUUID()}.csv`;
    await progress.reportProgress({ clientKrn, filename: "mine.csv" }, as);
    await progress.reportProgress({ clientKrn, filename: "final.csv", email, isLast: true }, as);
    await progress.reportProgress(
      { clientKrn, filename: "used.csv", email, updateId: "u", isLast: false },
      as,
    );
    const poison: [string, RegExp][] = [
      ["no JSON", /is no report in JSON/],
      ["[1]", /is no report in JSON/],
      [report(filename, { counts: { done: "many" } }), /is no report in JSON/],
      [report(filename, { counts: { done: -1 } }), /^counts\.done: /],
      [report(filename, { filename: "" }), /^filename: /],
      [report(filename, { email: "" }), /^email: is missing/],
      [report(filename, { clientKrn: "krn:stranger:client:1" }), /may not report on krn:stranger:client:1/],
      [report(filename, { clientKrn: "krn:nobody:client:1" }), /there is no tenant 'nobody'/],
      [report("mine.csv"), /Only the original creator/],
      [report("used.csv", { updateId: "u" }), /used before for another report/],
    ];
    const lines = poison.flatMap(([message]) => [report(filename), message]);
    // All in one partition, where a message that blocks would block the rest.
    await kafka.produce(topic, lines, ["-p", "3"]);
    await until(async () => (await doneOf(filename)) === poison.length, "everything else counts");
    const { rows } = await server.database.superuser.query<{ reason: string; payload: Buffer }>(
      "select reason, payload from progress_set_aside where position like $1 order by split_part(position, '/', 3)::int",
      [`${topic}/3/%`],
    );
    assert.equal(rows.length, poison.length);
    poison.forEach(([message, reason], index) => {
      assert.equal(rows[index]?.payload.toString(), message);
      assert.match(rows[index]?.reason ?? "", reason);
    });
    assert.equal(worker.context.progressIntake.list()[0]?.setAside, poison.length);
    await until(
      async () => (await kafka.committed(`group-${topic}`, topic, partitions))[3] === lines.length,
      "all offsets are committed",
    );
  });

  test("the same update by Kafka and by the API, again and again, counts once", async () => {
    const topic = await newTopic();
    const filename = `both-${randomUUID()}.csv`;
    const updates = Array.from({ length: 50 }, (_, index) => ({
      updateId: `u-${index}`,
      counts: { done: index },
    }));
    const byKafka = kafka.produce(
      topic,
      [...updates, ...updates].map((update) => report(filename, update)),
    );
    await using _ = await serve(server.database, settingsOf(topic));
    await Promise.all(
      updates.map(({ updateId, counts }) =>
        progress.reportProgress(
          { clientKrn, filename, email, updateId, counts: { done: BigInt(counts.done) } },
          as,
        ),
      ),
    );
    await byKafka;
    await kafka.produce(topic, [report(filename, { updateId: "end", counts: { done: 10_000 } })]);
    await until(async () => (await doneOf(filename)) >= 10_000, "the last counts");
    await until(async () => {
      const offsets = await kafka.committed(`group-${topic}`, topic, partitions);
      return offsets.reduce((sum, offset) => sum + Math.max(0, offset), 0) === 101;
    }, "all is read");
    assert.equal(await doneOf(filename), 10_000 + (49 * 50) / 2);
  });

  test("rebalances, SIGKILL, redelivery and a broker that restarts under load: totals are the sum of the distinct updates", async () => {
    const topic = await newTopic();
    const settings = settingsOf(topic);
    const files = Array.from({ length: 5 }, (_, index) => `load-${index}-${randomUUID()}.csv`);
    const expected = new Map(files.map((file) => [file, 0]));
    const lines: string[] = [];
    for (let index = 0; index < loadSize; index++) {
      const file = files[index % files.length] as string;
      const done = 1 + (index % 7);
      expected.set(file, (expected.get(file) ?? 0) + done);
      const line = report(file, { updateId: `u-${index}`, counts: { done } });
      lines.push(line);
      // One in five is sent twice, somewhere later.
      if (index % 5 === 0) lines.splice(Math.floor(Math.random() * lines.length), 0, line);
    }
    const chunks = Array.from({ length: 24 }, (_, index) => lines.filter((_, at) => at % 24 === index));

    await using first = await serve(server.database, settings);
    let chunksLeft = chunks.length;
    const producing = (async () => {
      for (const chunk of chunks) {
        // kcat gives up when its only broker is away; what it has sent already is sent twice then.
        while (
          !(await kafka.produce(topic, chunk).then(
            () => true,
            () => false,
          ))
        )
          await sleep(300);
        chunksLeft--;
        await sleep(250);
      }
    })();
    producing.catch(() => {});
    const processSettings = { ...settingsFor(server.database), ...settings };
    const doomed = await startServerProcess(processSettings);
    await sleep(300 + Math.random() * 1_000);
    await doomed.kill();
    const second = await serve(server.database, settings);
    await sleep(500);
    assert.ok(chunksLeft > 0, "the broker must restart under load");
    await kafka.down();
    await sleep(500);
    await kafka.up();
    await producing;
    const third = await serve(server.database, settings);
    await sleep(500);
    await second[Symbol.asyncDispose]();
    const complete = async () => {
      const sums = await Promise.all(files.map(doneOf));
      return files.every((file, index) => sums[index] === expected.get(file));
    };
    await until(complete, "all updates count", 90_000);
    // What is delivered again afterwards changes nothing.
    await kafka.produce(topic, lines.slice(0, 200));
    await until(
      async () => {
        const offsets = await kafka.committed(`group-${topic}`, topic, partitions);
        const committed = offsets.reduce((sum, offset) => sum + Math.max(0, offset), 0);
        return committed >= lines.length + 200;
      },
      "everything is committed",
      60_000,
    );
    assert.ok(await complete());
    await third[Symbol.asyncDispose]();
    const figures = first.context.progressIntake.list()[0];
    assert.ok((figures?.duplicates ?? 0) > 0 || loadSize < 1_000);
  });

  test("a message without an update id that is delivered again counts once", async () => {
    const topic = await newTopic();
    const settings = settingsOf(topic);
    const filename = `redelivered-${randomUUID()}.csv`;
    const count = 2_000;
    await kafka.produce(
      topic,
      Array.from({ length: count }, () => report(filename)),
      ["-X", "enable.idempotence=true"],
    );
    const processSettings = { ...settingsFor(server.database), ...settings };
    for (let round = 0; round < kills; round++) {
      const doomed = await startServerProcess(processSettings);
      const before = await doneOf(filename);
      await until(async () => (await doneOf(filename)) > before || before === count, "some count");
      await doomed.kill();
    }
    // From the beginning, as a group that has lost its offsets.
    await using _ = await serve(server.database, { ...settings, PULSEWIRE_KAFKA_GROUP: `again-${topic}` });
    await until(async () => {
      const offsets = await kafka.committed(`again-${topic}`, topic, partitions);
      return offsets.reduce((sum, offset) => sum + Math.max(0, offset), 0) === count;
    }, "all is read again");
    assert.equal(await doneOf(filename), count);
  });
});
