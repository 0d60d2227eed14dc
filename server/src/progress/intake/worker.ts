import type { Context } from "../../context.ts";
import type { StartWorker, Worker } from "../../jobs/workers.ts";
import { createIntake } from "./intake.ts";
import type { IntakeSettings } from "./settings.ts";

/** Begins to take reports from where the settings say. The libraries for it are loaded only then. */
export const startProgressIntake: StartWorker = (context) => {
  const starts = [startKafka, startSqs].map((start) => start(context, context.config.progress.intake));
  for (const start of starts) {
    start.catch((err: unknown) => context.logger.error({ err }, "reports of progress are not taken in"));
  }
  return {
    async close() {
      const started = await Promise.allSettled(starts);
      await Promise.all(
        started.map(async (each) => each.status === "fulfilled" && (await each.value?.close())),
      );
    },
  };
};

async function startKafka(context: Context, { kafka }: IntakeSettings): Promise<Worker | undefined> {
  if (!kafka) return undefined;
  const connector = await import("./kafka.ts");
  const figures = context.progressIntake.open("kafka");
  const intake = createIntake(context, { figures, clients: kafka.clients });
  return connector.startKafka(kafka, intake, figures, context.logger);
}

async function startSqs(context: Context, { sqs }: IntakeSettings): Promise<Worker | undefined> {
  if (!sqs) return undefined;
  const connector = await import("./sqs.ts");
  const client = connector.openQueue(sqs);
  const figures = context.progressIntake.open("sqs");
  const setAside = connector.deadLetters(client, sqs);
  const intake = createIntake(context, { figures, clients: sqs.clients, ...(setAside && { setAside }) });
  return connector.startSqs(client, sqs, intake, figures, context.logger);
}
