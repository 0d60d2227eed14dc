import {
  type Progress,
  type ProgressDelta,
  ProgressDeltaSchema,
  ProgressSchema,
  type PulsewireClient,
  pages,
} from "@pulsewire/sdk";
import { barOf } from "../bar.ts";
import type { Call, Command } from "../command.ts";
import { exitCodes, Failure } from "../failure.ts";
import { following } from "../following.ts";
import { write } from "../io.ts";
import { plain, printFacts, printJson, printList, timeText } from "../output.ts";

const watch: Command = {
  name: "watch",
  operands: "[CLIENT [FILE]]",
  maxOperands: 2,
  summary: "shows how far files are, and each change",
  details: `CLIENT is krn:TENANT:client:ID. On a terminal the files stand below each other and move; otherwise each change is a
line. Goes on over restarts and cut lines until Ctrl-C, or with --until-complete until the file is complete.`,
  options: {
    all: { type: "boolean", help: "begin with completed files, too" },
    "until-complete": { type: "boolean", help: "end when FILE is complete" },
  },
  examples: [
    "pulsewire progress watch",
    "pulsewire progress watch krn:acme:client:7 orders.csv --until-complete",
  ],
  async run(call) {
    const { args, io, json } = call;
    const [clientKrn = "", filename = ""] = args.operands;
    const untilComplete = args.flag("until-complete");
    if (untilComplete && !filename)
      throw new Failure("--until-complete needs a CLIENT and a FILE.", exitCodes.usage);
    const client = await call.open();
    const screen = !json && io.stdout.isTTY === true ? new Screen(call) : undefined;
    const request = { clientKrn, filename, includeCompleted: args.flag("all") };
    for await (const { snapshot, deltas } of following(io, client.progress.watchProgress, request)) {
      const states = [...snapshot, ...deltas];
      for (const state of states) {
        if (screen) screen.take(state);
        else if (!json) await write(io.stdout, `${lineOf(state)}\n`);
        else if (state.$typeName === ProgressSchema.typeName) await printJson(io, ProgressSchema, state);
        else await printJson(io, ProgressDeltaSchema, state);
      }
      await screen?.draw();
      if (untilComplete && states.some(({ isCompleted }) => isCompleted)) return undefined;
    }
    return undefined;
  },
};

const list: Command = {
  name: "list",
  operands: "[CLIENT]",
  maxOperands: 1,
  summary: "lists files, newest first",
  options: {
    open: { type: "boolean", help: "only those that are not complete" },
    limit: { type: "string", value: "COUNT", help: "at most this many; 100 unless given" },
  },
  async run(call) {
    const { args } = call;
    const limit = args.number("limit", 1, 1_000_000) ?? 100;
    const files = await take(await call.open(), args.operands[0] ?? "", args.flag("open"), limit);
    await printList(call, ProgressSchema, [files], (found) => found, {
      head: ["client", "file", "lines", "%", "state", "updated"],
      row: (file) => [
        file.clientKrn,
        plain(file.filename),
        countsOf(file),
        percentageOf(file),
        stateOf(file),
        timeText(file.updatedAt),
      ],
      none: "There are no files.",
    });
    return undefined;
  },
};

const get: Command = {
  name: "get",
  operands: "CLIENT FILE",
  maxOperands: 2,
  summary: "shows one file",
  async run(call) {
    const { args, io, json } = call;
    const [clientKrn, filename] = [args.operand(0, "CLIENT"), args.operand(1, "FILE")];
    const { progress } = await (await call.open()).progress.getProgress({ clientKrn, filename });
    if (!progress) return exitCodes.notFound;
    if (json) await printJson(io, ProgressSchema, progress);
    else {
      await printFacts(io, {
        Client: progress.clientKrn,
        File: plain(progress.filename),
        State: stateOf(progress),
        Lines: countsOf(progress),
        Percent: percentageOf(progress),
        Rate: progress.rate > 0 ? `${progress.rate.toFixed(1)} lines/s` : "",
        Done: progress.eta ? `about ${timeText(progress.eta)}` : "",
        Updated: timeText(progress.updatedAt),
      });
    }
    return undefined;
  },
};

export const progress: Command = {
  name: "progress",
  summary: "shows how far files are processed",
  fallback: "list",
  subcommands: [watch, list, get],
};

async function take(
  client: PulsewireClient,
  clientKrn: string,
  open: boolean,
  limit: number,
): Promise<Progress[]> {
  const files: Progress[] = [];
  const request = { clientKrn, pageSize: Math.min(limit, 1000), ...(open && { isCompleted: false }) };
  for await (const page of pages(client.progress.listProgress, request)) {
    files.push(...page.progress);
    if (files.length >= limit) break;
  }
  return files.slice(0, limit);
}

type State = Progress | ProgressDelta;

function countsOf({ counts, total }: State): string {
  const { done = 0n, warn = 0n, failed = 0n } = counts ?? {};
  const notes = [warn > 0n && `${warn} with warnings`, failed > 0n && `${failed} failed`].filter(Boolean);
  const of = total === undefined ? "" : ` of ${total}`;
  return `${done + warn + failed}${of}${notes.length > 0 ? ` (${notes.join(", ")})` : ""}`;
}

function percentageOf({ percentage }: State): string {
  return percentage === undefined ? "-" : `${percentage.toFixed(1)} %`;
}

function stateOf(state: State): string {
  if (state.isCompleted) return "complete";
  return "stalled" in state && state.stalled ? "stalled" : "open";
}

function lineOf(state: State): string {
  const { updatedAt, clientKrn, filename } = state;
  const parts = [
    timeText(updatedAt),
    clientKrn,
    filename,
    countsOf(state),
    percentageOf(state),
    stateOf(state),
  ];
  return plain(parts.join("  "));
}

/** The files below each other; the ones that changed last, where there are too many. */
class Screen {
  readonly #call: Call;
  readonly #states = new Map<string, State>();
  #lines = 0;

  constructor(call: Call) {
    this.#call = call;
  }

  take(state: State): void {
    const key = `${state.clientKrn} ${state.filename}`;
    this.#states.delete(key);
    this.#states.set(key, state);
  }

  async draw(): Promise<void> {
    const { stdout } = this.#call.io;
    const width = (stdout.columns || 80) - 1;
    const shown = [...this.#states.values()].slice(-20);
    const lines = shown.map((state) => {
      const part = state.isCompleted ? 1 : (state.percentage ?? 0) / 100;
      return plain(`${barOf(part)} ${state.filename} ${countsOf(state)}`).slice(0, width);
    });
    const up = this.#lines > 0 ? `\x1b[${this.#lines}A` : "";
    this.#lines = lines.length;
    await write(stdout, `${up}${lines.map((line) => `\r${line}\x1b[K\n`).join("")}`);
  }
}
