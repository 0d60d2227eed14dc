/**
 * Reports from a queue of SQS. A message is deleted when it is done with, which means committed in the database or put aside;
 * what is not done when its visibility ends comes again and counts once. Of ten that come together, those that are done are
 * deleted, whatever becomes of the others.
 */
import { GetQueueAttributesCommand, type Message, SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import type { Logger } from "pino";
import { Consumer } from "sqs-consumer";
import { startLoop } from "../../jobs/loop.ts";
import type { Worker } from "../../jobs/workers.ts";
import type { IntakeFigures } from "./figures.ts";
import type { Intake, IntakeMessage } from "./intake.ts";
import type { SqsSettings } from "./settings.ts";

/** SQS gives no more. */
const batchSize = 10;
const waitSeconds = 10;
const lagIntervalMs = 5_000;
const maxReasonCharacters = 500;

/** The client of a queue. Credentials come from where AWS's tools look for them. */
export function openQueue({ region, endpoint }: SqsSettings): SQSClient {
  return new SQSClient({ region, ...(endpoint && { endpoint, useQueueUrlAsEndpoint: false }) });
}

/** Sends a message to the dead-letter queue, where one is set. */
export function deadLetters(client: SQSClient, { deadLetterQueueUrl }: SqsSettings) {
  if (deadLetterQueueUrl === undefined) return undefined;
  return async ({ payload, position }: IntakeMessage, reason: string): Promise<void> => {
    const text = (value: string) => ({ DataType: "String", StringValue: value });
    await client.send(
      new SendMessageCommand({
        QueueUrl: deadLetterQueueUrl,
        MessageBody: payload,
        MessageAttributes: {
          reason: text(reason.slice(0, maxReasonCharacters)),
          original_message_id: text(position),
        },
      }),
    );
  };
}

/** Begins to consume. */
export function startSqs(
  client: SQSClient,
  settings: SqsSettings,
  intake: Intake,
  figures: IntakeFigures,
  logger: Logger,
): Worker {
  const closing = new AbortController();
  const { queueUrl, visibilitySeconds } = settings;
  /** Those of the messages that are done with in time. */
  const handleAll = async (messages: Message[]): Promise<Message[]> => {
    const inTime = AbortSignal.any([closing.signal, AbortSignal.timeout(visibilitySeconds * 1_000)]);
    const done = await Promise.all(messages.map((message) => intake.handle(intakeMessage(message), inTime)));
    return messages.filter((_, index) => done[index]);
  };
  const consumers = Array.from({ length: settings.consumers }, () => {
    const consumer = Consumer.create({
      queueUrl,
      sqs: client,
      batchSize,
      waitTimeSeconds: waitSeconds,
      visibilityTimeout: visibilitySeconds,
      suppressFifoWarning: true,
      handleMessageBatch: handleAll,
    });
    const onError = (err: Error) => {
      if (closing.signal.aborted) return;
      figures.errors++;
      logger.warn({ err }, "the queue of progress cannot be read right now");
    };
    consumer.on("error", onError);
    consumer.on("processing_error", onError);
    consumer.start();
    return consumer;
  });
  const lag = startLoop({
    name: "lag of the progress queue",
    async step() {
      figures.lag = await waitingIn(client, queueUrl);
      return "idle";
    },
    idleMs: lagIntervalMs,
    logger,
  });
  return {
    async close() {
      const stopped = consumers.map((consumer) => {
        const ended = Promise.withResolvers<void>();
        consumer.once("stopped", () => ended.resolve());
        consumer.stop({ abort: true });
        return ended.promise;
      });
      closing.abort();
      await Promise.all([...stopped, lag.close()]);
      client.destroy();
    },
  };
}

function intakeMessage({ MessageId = "", Body = "" }: Message): IntakeMessage {
  return { position: MessageId, deliveryId: `sqs:${MessageId}`, payload: Body };
}

async function waitingIn(client: SQSClient, queueUrl: string): Promise<number> {
  const { Attributes = {} } = await client.send(
    new GetQueueAttributesCommand({
      QueueUrl: queueUrl,
      AttributeNames: ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    }),
  );
  return Object.values(Attributes).reduce((sum, count) => sum + Number(count), 0);
}
