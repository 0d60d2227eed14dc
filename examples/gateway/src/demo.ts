/** `npm run demo`: this machine's own readings and log lines go in through the SDK's gateway, and are read back. */
import { statSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { createClient, createGateway, type ItemSettled } from "@pulsewire/sdk";
import { explain, Failure } from "./failure.ts";
import { LineReader } from "./line-to-event.ts";
import { listFolder, readLines } from "./lines.ts";
import { checkFile, findLogFile } from "./log-file.ts";
import { type Options, parseOptions, usage } from "./options.ts";
import { showOutage } from "./outage.ts";
import { countStored, ensureStore, querySamples } from "./read-back.ts";
import { eventReport, sampleReport } from "./report.ts";
import { sendLines, sendReadings } from "./send.ts";
import { findServer, type Server } from "./server.ts";

const print = (text: string) => process.stdout.write(text);

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (!options) {
    print(usage);
    return;
  }
  const { outage, seconds } = options;
  const source = outage === undefined ? openSource(options) : undefined;
  print("Looking for a server …\n");
  await using server = await findServer(process.env);
  try {
    if (source) await run(server, source, seconds);
    else await runOutage(server, outage ?? 0);
  } catch (error) {
    throw new Failure(explain(error, server.endpoint), { cause: error });
  }
}

/** Lines and how to read them. */
interface Source {
  title: string;
  lines: ReturnType<typeof readLines> | ReturnType<typeof listFolder>;
  reader: LineReader;
}

function openSource({ file: asked, lines: most }: Options): Source {
  const file = asked === undefined ? findLogFile(process.env) : checkFile(asked);
  if (file === undefined) {
    const folder = process.cwd();
    const title = `No log file can be read here, so the events are the files of ${folder}`;
    return { title, lines: listFolder(folder, most), reader: new LineReader(folder, 0) };
  }
  const full = path.resolve(file);
  const { birthtimeMs } = statSync(full);
  const reader = new LineReader(full, Math.trunc(birthtimeMs));
  return { title: `Events are the lines of ${full}`, lines: readLines(full, most), reader };
}

async function run(server: Server, source: Source, seconds: number): Promise<void> {
  const { endpoint, apiKey } = server;
  using client = createClient({ endpoint, apiKey });
  const store = os.hostname();
  const storeId = await ensureStore(client, store);
  print(`Server     ${endpoint}${server.own ? ", started for this demo" : ""}\n`);
  print(`Store      ${store}\n`);
  print(`${source.title}\n\n`);

  let refused: ItemSettled | undefined;
  await using gateway = createGateway({
    endpoint,
    apiKey,
    storeId,
    whenFull: "wait",
    onOutcome(outcome) {
      if (outcome.status !== "accepted" && outcome.status !== "duplicate") refused ??= outcome;
    },
  });
  const start = Date.now();
  let linesSent = false;
  const [sent] = await Promise.all([
    sendLines(gateway, source.lines, source.reader).finally(() => {
      linesSent = true;
    }),
    sendReadings(gateway, seconds, () => linesSent),
  ]);
  const stored = await countStored(client, sent.events);
  const series = await querySamples(client, storeId, start, Date.now() + 1);

  const { counts } = gateway;
  print(`\n${eventReport(sent, counts, stored)}`);
  if (refused)
    print(`\nThe first that was not stored: ${refused.code} ${refused.field ?? ""} ${refused.message}\n`);
  print(`\nSamples: ${counts.samples.accepted} accepted, ${counts.samples.rejected} rejected\n\n`);
  print(sampleReport(series));
  print(`\n${nextStep(server)}`);
}

async function runOutage(server: Server, seconds: number): Promise<void> {
  const { endpoint, apiKey } = server;
  using client = createClient({ endpoint, apiKey });
  const store = `${os.hostname()}, a reading a second`;
  print(`Server     ${endpoint}${server.own ? ", started for this demo" : ""}\n`);
  print(`Store      ${store}\n\n`);
  await showOutage(client, server, store, seconds);
}

function nextStep({ endpoint, apiKey, own }: Server): string {
  const address = own ? `http://127.0.0.1:${process.env.PORT ?? 8080}` : endpoint;
  const method = "pulsewire.ingestion.v1.IngestionService/ListEvents";
  return `${own ? "Next: start the server with `npm start`, and ask for the latest event" : "Next: ask for the latest event"}
  curl ${address}/${method} \\
    -H 'content-type: application/json' -H 'x-api-key: ${apiKey}' -d '{"pageSize":1}'
`;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));

main().catch((error: unknown) => {
  process.stderr.write(`${explain(error, "")}\n`);
  process.exitCode = 1;
});
