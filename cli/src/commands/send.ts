import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import path from "node:path";
import { createGateway, type Gateway, type GatewayCounts, type ItemSettled } from "@pulsewire/sdk";
import { Bar } from "../bar.ts";
import type { Call, Command } from "../command.ts";
import { exitCodes, Failure } from "../failure.ts";
import { write } from "../io.ts";
import { plain, printValue } from "../output.ts";
import { readCsv } from "../rows/csv.ts";
import { toEvent } from "../rows/event.ts";
import { readNdjson } from "../rows/ndjson.ts";
import { type Row, RowError } from "../rows/row.ts";
import { toSample } from "../rows/sample.ts";

/** Problems of rows that are told of one by one. */
const maxToldProblems = 20;

export const send: Command = {
  name: "send",
  operands: "[FILE]",
  maxOperands: 1,
  summary: "sends events or samples from an NDJSON or CSV file, or from standard input",
  details: `NDJSON has one JSON object a line; the first line of CSV names the columns. Names may be written eventType or
event_type; payload.amount, metrics.ms, source.service and the like lie in an object. What is no field of an event goes into
its payload, what is none of a sample (name, value, timestamp, unit, kind, storeId) becomes a label.

Events of a file that have no eventId get one from their line and content, and the time of the file where they have none,
so that a file that is sent again adds nothing. Events of standard input, and with --new-ids, are new each time.`,
  options: {
    format: {
      type: "string",
      value: "ndjson|csv",
      values: ["ndjson", "csv"],
      help: "instead of what the name or the first character says",
    },
    as: {
      type: "string",
      value: "events|samples",
      values: ["events", "samples"],
      help: "what the rows are; events unless given",
    },
    type: { type: "string", value: "TYPE", help: "eventType of rows that have none" },
    store: { type: "string", value: "ID", help: "store of samples that have none" },
    "new-ids": { type: "boolean", help: "make new ids, also for a file" },
  },
  examples: [
    "pulsewire send orders.csv --type order_paid",
    "tail -F app.ndjson | pulsewire send --type log_line",
    "pulsewire send readings.csv --as samples --store 0198f0c2-…",
  ],
  async run(call) {
    const { args, io } = call;
    const as = args.choice("as", ["events", "samples"]) ?? "events";
    const format = args.choice("format", ["ndjson", "csv"]);
    const storeId = args.text("store");
    await using source = await openSource(call, args.operands[0] ?? "-");
    const { endpoint, credentials } = await call.target();
    // Wrong credentials are told of before anything is read.
    await (await call.open()).auth.getMe({});
    const sending = new Sending(call, source.size);
    const gateway = createGateway({
      endpoint,
      ...credentials,
      ...(storeId && { storeId }),
      whenFull: "wait",
      onOutcome: (outcome) => sending.settled(outcome),
      onDrop: () => {}, // counted at the end
      onRetry: ({ error }) => sending.away(error.message),
    });
    sending.counts = () => gateway.counts;
    const rows = await readRows(sending.counted(source.chunks), format ?? source.format);
    try {
      await feed(rows, gateway, sending, call, {
        as,
        ids: source.file !== undefined && !args.flag("new-ids"),
        madeMs: source.madeMs,
      });
      await sending.flush(gateway);
    } finally {
      await gateway.close(io.signal.aborted ? { deadlineMs: 0 } : {});
    }
    return sending.finish(gateway.counts);
  },
};

interface Source extends AsyncDisposable {
  readonly file: string | undefined;
  readonly chunks: AsyncIterable<string>;
  /** Bytes, where they are known. */
  readonly size: number | undefined;
  readonly format: "ndjson" | "csv" | undefined;
  /** When the file was made, milliseconds since 1970. */
  readonly madeMs: number | undefined;
}

async function openSource({ io }: Call, name: string): Promise<Source> {
  if (name === "-") {
    if (io.stdin.isTTY) {
      throw new Failure("Name a file, or pipe NDJSON or CSV into the command.", exitCodes.usage);
    }
    io.stdin.setEncoding("utf8");
    const leave = () => void io.stdin.destroy();
    io.signal.addEventListener("abort", leave);
    return {
      file: undefined,
      chunks: io.stdin,
      size: undefined,
      format: undefined,
      madeMs: undefined,
      [Symbol.asyncDispose]: async () => leave(),
    };
  }
  let handle: FileHandle;
  try {
    if ((await stat(name)).isDirectory()) throw new Failure(`${name} is a folder.`, exitCodes.usage);
    handle = await open(name);
  } catch (error) {
    if (error instanceof Failure) throw error;
    const why =
      (error as NodeJS.ErrnoException).code === "ENOENT" ? "is not there" : (error as Error).message;
    throw new Failure(`The file ${name} cannot be read: ${why}.`, exitCodes.usage);
  }
  const { size, birthtimeMs, mtimeMs } = await handle.stat();
  const format = { ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson" } as const;
  const extension = path.extname(name).toLowerCase() as keyof typeof format;
  return {
    file: name,
    chunks: createReadStream(name, { encoding: "utf8", fd: handle, autoClose: false, signal: io.signal }),
    size,
    format: format[extension],
    madeMs: Math.round(birthtimeMs || mtimeMs),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** Rows of the format, or of what the first character looks like. */
async function readRows(
  chunks: AsyncGenerator<string>,
  format: "ndjson" | "csv" | undefined,
): Promise<AsyncGenerator<Row>> {
  if (format) return format === "csv" ? readCsv(chunks) : readNdjson(chunks);
  const { value: first = "", done } = await chunks.next();
  const all = (async function* () {
    if (done) return;
    yield first;
    yield* chunks;
  })();
  return /^\s*\{/.test(first) ? readNdjson(all) : readCsv(all);
}

async function feed(
  rows: AsyncGenerator<Row>,
  gateway: Gateway,
  sending: Sending,
  { args, io }: Call,
  { as, ids, madeMs }: { as: "events" | "samples"; ids: boolean; madeMs: number | undefined },
): Promise<void> {
  const eventType = args.text("type");
  try {
    for await (const row of rows) {
      if (io.signal.aborted) return;
      sending.rows++;
      if ("problem" in row) {
        sending.refused(row.line, row.problem);
        continue;
      }
      try {
        if (as === "samples") {
          const { name, value, options } = toSample(row.value);
          await gateway.metric(name, value, options);
        } else {
          const eventId = ids ? idOf(row) : undefined;
          const event = toEvent(row.value, { eventType, eventId, timestamp: ids ? madeMs : undefined });
          event.eventId ??= crypto.randomUUID();
          sending.lines.set(event.eventId, row.line);
          await gateway.event(event);
        }
      } catch (error) {
        if (!(error instanceof RowError || error instanceof TypeError)) throw error;
        sending.refused(row.line, error.message);
      }
    }
  } catch (error) {
    if (!io.signal.aborted) throw error;
  }
}

/** The same row on the same line always has the same id. */
function idOf({ line, text }: { line: number; text: string }): string {
  return `row-${createHash("sha256").update(`${line}\n${text}`).digest("hex").slice(0, 40)}`;
}

/** How far a sending is, and what went wrong in it. */
class Sending {
  rows = 0;
  /** Line of each event that is under way. */
  readonly lines = new Map<string, number>();
  counts: () => GatewayCounts | undefined = () => undefined;
  readonly #call: Call;
  readonly #bar: Bar;
  readonly #size: number | undefined;
  readonly #begunMs = performance.now();
  #bytes = 0;
  #invalid = 0;
  #told = 0;
  #away = "";

  constructor(call: Call, size: number | undefined) {
    this.#call = call;
    this.#bar = new Bar(call.io);
    this.#size = size;
  }

  /** The chunks, counted. */
  async *counted(chunks: AsyncIterable<string>): AsyncGenerator<string> {
    for await (const chunk of chunks) {
      this.#bytes += Buffer.byteLength(chunk);
      this.#show();
      yield chunk;
    }
  }

  /** A row that is not sent. */
  refused(line: number, problem: string): void {
    this.#invalid++;
    this.#tell(`line ${line} ${/^(is|has) /.test(problem) ? problem : `cannot be sent: ${problem}`}`);
  }

  away(message: string): void {
    this.#away = message;
    this.#show();
  }

  settled(outcome: ItemSettled): void {
    const line = outcome.type === "event" ? this.lines.get(outcome.eventId) : undefined;
    if (outcome.type === "event") this.lines.delete(outcome.eventId);
    this.#away = "";
    this.#show();
    if (outcome.status === "accepted" || outcome.status === "duplicate") return;
    const what =
      line === undefined ? `${outcome.type === "sample" ? outcome.name : "an event"}` : `line ${line}`;
    const where = "field" in outcome && outcome.field ? `${outcome.field}: ` : "";
    const why = "message" in outcome && outcome.message ? outcome.message : "";
    this.#tell(`${what} was ${outcome.status === "dropped" ? "given up" : outcome.status}: ${where}${why}`);
  }

  /** Waits for the answers; Ctrl-C ends the wait. */
  async flush(gateway: Gateway): Promise<void> {
    const { signal } = this.#call.io;
    const timer = setInterval(() => this.#show(), 200);
    const interrupted = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    try {
      await Promise.race([gateway.flush(), interrupted]);
    } finally {
      clearInterval(timer);
    }
  }

  /** Prints what became of it all and gives the exit code. */
  async finish(counts: GatewayCounts): Promise<number> {
    const { io, json } = this.#call;
    const { accepted, duplicate, conflict, rejected } = counts;
    const dropped = Object.values(counts.dropped).reduce((sum, count) => sum + count, 0);
    const seconds = (performance.now() - this.#begunMs) / 1000;
    this.#bar.clear();
    const hidden = this.#told - maxToldProblems;
    if (hidden > 0 && !json) await write(io.stderr, `pulsewire: and ${hidden} more\n`);
    if (json) {
      await printValue(io, {
        ...{ rows: this.rows, accepted, duplicate, conflict, rejected, invalid: this.#invalid, dropped },
        seconds: Math.round(seconds * 1000) / 1000,
      });
    } else {
      const parts = Object.entries({
        duplicate,
        conflict,
        rejected,
        invalid: this.#invalid,
        "given up": dropped,
      })
        .filter(([, count]) => count > 0)
        .map(([name, count]) => `, ${count.toLocaleString("en-US")} ${name}`);
      const rows = `${this.rows.toLocaleString("en-US")} ${this.rows === 1 ? "row" : "rows"}`;
      await write(
        io.stdout,
        `${rows} in ${seconds.toFixed(1)} s: ${accepted.toLocaleString("en-US")} accepted${parts.join("")}\n`,
      );
    }
    if (io.signal.aborted) return exitCodes.interrupted;
    return conflict + rejected + this.#invalid + dropped > 0 ? exitCodes.partly : exitCodes.ok;
  }

  #tell(problem: string): void {
    if (this.#told++ >= maxToldProblems) return;
    this.#bar.clear();
    const text = plain(problem);
    const line = this.#call.json ? JSON.stringify({ problem: text }) : `pulsewire: ${text}`;
    void write(this.#call.io.stderr, `${line}\n`);
  }

  #show(): void {
    const counts = this.counts();
    const done = counts ? counts.queued - counts.pending : 0;
    const rate = done / Math.max(0.001, (performance.now() - this.#begunMs) / 1000);
    const remark = `${done.toLocaleString("en-US")} of ${this.rows.toLocaleString("en-US")} rows, ${Math.round(rate).toLocaleString("en-US")}/s${this.#away && `; ${this.#away}`}`;
    // What is read is not yet done: rows that wait for their answer hold the bar back.
    const read = this.#size ? this.#bytes / this.#size : undefined;
    this.#bar.show(read === undefined ? undefined : (read * done) / Math.max(1, this.rows), remark);
  }
}
