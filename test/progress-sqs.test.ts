import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { type Client, createClient } from "@connectrpc/connect";
import { type FauxqsServer, startFauxqs } from "fauxqs";
import { envToConfig } from "../server/src/config/config.ts";
import { ProgressService } from "../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { withKey } from "./helpers/platform.ts";
import { grpcSession, serve, settingsFor, startTestServer, type TestServer } from "./helpers/server.ts";
import { startServerProcess } from "./helpers/server-process.ts";

const clientKrn = "krn:first:client:sqs";
const email = "worker@first.example";
const awsCredentials = { AWS_ACCESS_KEY_ID: "test", AWS_SECRET_ACCESS_KEY: "test" };

describe("progress from SQS", () => {
  let sqs: FauxqsServer;
  let client: SQSClient;
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  let progress: Client<typeof ProgressService>;
  let as: ReturnType<typeof withKey>;

  before(async () => {
    // Where AWS's library looks for them, in this process as in the server's.
    Object.assign(process.env, awsCredentials);
    sqs = await startFauxqs({ port: 0, logger: false });
    client = new SQSClient({ region: "us-east-1", endpoint: sqs.address, useQueueUrlAsEndpoint: false });
    server = await startTestServer();
    session = grpcSession(server.url);
    progress = createClient(ProgressService, session.transport);
    as = withKey(server.tenant.apiKey);
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
    client.destroy();
    await sqs.stop();
  });

  function newQueue(): string {
    return sqs.createQueue(`progress-${randomUUID()}`).queueUrl;
  }

  const settingsOf = (queueUrl: string, rest: object = {}) => ({
    PULSEWIRE_SQS_QUEUE_URL: queueUrl,
    PULSEWIRE_SQS_ENDPOINT: sqs.address,
    PULSEWIRE_SQS_CLIENTS: "krn:first:client:*",
    PULSEWIRE_SQS_VISIBILITY: "2",
    ...rest,
  });

  async function send(queueUrl: string, bodies: readonly string[]): Promise<void> {
    for (let start = 0; start < bodies.length; start += 10) {
      const Entries = bodies
        .slice(start, start + 10)
        .map((MessageBody, index) => ({ Id: String(index), MessageBody }));
      await client.send(new SendMessageBatchCommand({ QueueUrl: queueUrl, Entries }));
    }
  }

  async function left(queueUrl: string): Promise<number> {
    const { Attributes = {} } = await client.send(
      new GetQueueAttributesCommand({
        QueueUrl: queueUrl,
        AttributeNames: ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
      }),
    );
    return Object.values(Attributes).reduce((sum, count) => sum + Number(count), 0);
  }

  const doneOf = (filename: string) =>
    progress.getProgress({ clientKrn, filename }, as).then(
      ({ progress: file }) => Number(file?.counts?.done ?? 0n),
      () => 0,
    );

  async function until(condition: () => Promise<boolean> | boolean, what: string, timeoutMs = 30_000) {
    for (const end = Date.now() + timeoutMs; !(await condition()); await sleep(25)) {
      assert.ok(Date.now() < end, `not within ${timeoutMs} ms: ${what}`);
    }
  }

  const report = (filename: string, rest: object = {}) =>
    JSON.stringify({ clientKrn, email, filename, counts: { done: 1, warn: 0, failed: 0 }, ...rest });

  test("a message as Pebbles documents it counts and is deleted", async () => {
    const queueUrl = newQueue();
    await using worker = await serve(server.database, settingsOf(queueUrl));
    const documented = {
      counts: { done: 1000, warn: 5, failed: 2 },
      total: 100_000,
      errors: [{ line: 567, message: "Invalid format" }],
    };
    await send(queueUrl, [report("large_dataset.csv", documented)]);
    await until(async () => (await doneOf("large_dataset.csv")) === 1_000, "it counts");
    const { progress: file, errors } = await progress.getProgress(
      { clientKrn, filename: "large_dataset.csv" },
      as,
    );
    assert.equal(file?.total, 100_000n);
    assert.equal(errors[0]?.message, "Invalid format");
    await until(async () => (await left(queueUrl)) === 0, "it is deleted");
    await until(() => worker.context.progressIntake.list()[0]?.lag === 0, "the lag is known", 15_000);
  });

  test("of messages that come together, poison goes to the dead-letter queue, and the rest counts", async () => {
    const [queueUrl, deadLetterQueueUrl] = [newQueue(), newQueue()];
    await using worker = await serve(
      server.database,
      settingsOf(queueUrl, { PULSEWIRE_SQS_DEAD_LETTER_QUEUE_URL: deadLetterQueueUrl }),
    );
    const filename = `poison-${randomUUID()}.csv`;
    await send(queueUrl, [
      report(filename),
      "no JSON",
      report(filename),
      report(filename, { clientKrn: "krn:other:client:1" }),
      report(filename),
    ]);
    await until(async () => (await left(queueUrl)) === 0, "all are done with");
    assert.equal(await doneOf(filename), 3);
    const { Messages = [] } = await client.send(
      new ReceiveMessageCommand({
        QueueUrl: deadLetterQueueUrl,
        MaxNumberOfMessages: 10,
        MessageAttributeNames: ["All"],
      }),
    );
    const reasons = Messages.map(({ MessageAttributes }) => MessageAttributes?.reason?.StringValue ?? "");
    assert.equal(Messages.length, 2);
    assert.ok(reasons.some((reason) => /no report in JSON/.test(reason)));
    assert.ok(reasons.some((reason) => /may not report on krn:other:client:1/.test(reason)));
    assert.equal(worker.context.progressIntake.list()[0]?.setAside, 2);
    const metrics = await worker.context.prometheus.registry.metrics();
    assert.match(metrics, /pulsewire_progress_intake_messages_total\{connector="sqs",result="set_aside"\} 2/);
    assert.match(metrics, /pulsewire_progress_intake_messages_total\{connector="sqs",result="counted"\} 3/);
  });

  test("without a dead-letter queue poison is kept in a table", async () => {
    const queueUrl = newQueue();
    await using _ = await serve(server.database, settingsOf(queueUrl));
    await send(queueUrl, ["{}"]);
    await until(async () => (await left(queueUrl)) === 0, "it is done with");
    const { rows } = await server.database.superuser.query(
      "select reason, payload from progress_set_aside where connector = 'sqs'",
    );
    assert.equal(rows.length, 1);
    assert.match(rows[0].reason, /^client_krn: /);
    assert.equal(rows[0].payload.toString(), "{}");
  });

  test("killed in the middle and delivered again, by SQS and by the API: totals are the sum of the distinct updates", async () => {
    const queueUrl = newQueue();
    const files = Array.from({ length: 4 }, (_, index) => `load-${index}-${randomUUID()}.csv`);
    const expected = new Map(files.map((file) => [file, 0]));
    const bodies: string[] = [];
    const byApi: (() => Promise<unknown>)[] = [];
    for (let index = 0; index < 800; index++) {
      const filename = files[index % files.length] as string;
      const done = 1 + (index % 5);
      expected.set(filename, (expected.get(filename) ?? 0) + done);
      // Half of them have no id of their own: then the message is what is recognised.
      if (index % 2) {
        bodies.push(report(filename, { counts: { done } }));
        continue;
      }
      const updateId = `u-${index}`;
      const body = report(filename, { updateId, counts: { done } });
      bodies.push(body);
      if (index % 3 === 0) bodies.push(body);
      if (index % 8 === 0) {
        const request = { clientKrn, filename, email, updateId, counts: { done: BigInt(done) } };
        byApi.push(() => progress.reportProgress(request, as));
      }
    }
    const sending = send(queueUrl, bodies);
    const settings = { ...settingsFor(server.database), ...settingsOf(queueUrl), ...awsCredentials };
    for (let round = 0; round < 2; round++) {
      const doomed = await startServerProcess(settings);
      const before = await left(queueUrl);
      await until(async () => (await left(queueUrl)) < before, "some are done with");
      await doomed.kill();
    }
    await using _ = await serve(server.database, settingsOf(queueUrl));
    await Promise.all([sending, ...byApi.map((call) => call())]);
    await until(async () => (await left(queueUrl)) === 0, "all are done with", 60_000);
    for (const file of files) assert.equal(await doneOf(file), expected.get(file), file);
  });

  test("a connector without clients it may speak for does not start", () => {
    assert.throws(
      () => envToConfig({ PULSEWIRE_SQS_QUEUE_URL: "https://sqs.us-east-1.amazonaws.com/1/q" }),
      /PULSEWIRE_SQS_CLIENTS must be set/,
    );
    assert.throws(
      () => envToConfig({ PULSEWIRE_KAFKA_BROKERS: "localhost:9092", PULSEWIRE_KAFKA_CLIENTS: "acme" }),
      /PULSEWIRE_KAFKA_CLIENTS has 'acme'/,
    );
    assert.throws(() => envToConfig({ PULSEWIRE_KAFKA_BROKERS: "localhost" }), /must be host:port/);
    const kafka = { PULSEWIRE_KAFKA_BROKERS: "localhost:9092", PULSEWIRE_KAFKA_CLIENTS: "*" };
    assert.throws(
      () => envToConfig({ ...kafka, PULSEWIRE_KAFKA_GROUP: "my group" }),
      /PULSEWIRE_KAFKA_GROUP is 'my group'; the name must not be empty or have spaces/,
    );
    assert.throws(
      () => envToConfig({ ...kafka, PULSEWIRE_KAFKA_TOPIC: "a topic" }),
      /PULSEWIRE_KAFKA_TOPIC is/,
    );
    const named = { ...kafka, PULSEWIRE_KAFKA_GROUP: "team/a:progress", PULSEWIRE_KAFKA_TOPIC: "a.b_c-1" };
    assert.equal(envToConfig(named).progress.intake.kafka?.group, "team/a:progress");
  });
});
