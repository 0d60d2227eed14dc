/**
 * Watchers of one file and who reports on it, in one process apart from the server, so that they share a clock. Told over IPC
 * what to open and when to begin; see `watch-process.ts`.
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ProgressService } from "../../sdk/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { type Http1CallOptions, http1Workload } from "./http1-calls.ts";

export interface WatchCommand {
  /** `ours`: WatchProgress in Connect's protocol over HTTP/1.1; `sse`: GET. A connection for each watcher. */
  readonly kind: "ours" | "sse";
  readonly url: string;
  readonly apiKey: string;
  readonly clientKrn: string;
  readonly filename: string;
  readonly watchers: number;
  readonly seconds: number;
  /** Who reports: as fast as the answers come, or so often a second. */
  readonly updates: Http1CallOptions;
  readonly updatesPerSecond?: number;
}

export interface WatchRound {
  readonly seconds: number;
  /** Updates that were answered. */
  readonly updates: number;
  /** Messages that arrived at all watchers together. */
  readonly messages: number;
  /** Changes in them. */
  readonly changes: number;
  /** Watchers to whom a change did not come, or came twice. */
  readonly faulty: number;
  /** From when a report was sent until a watcher had its change. Only where one update is sent at a time. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export type WatchAnswer =
  | { readonly ready: true }
  | { readonly round: WatchRound }
  | { readonly error: string };

const connectsAtOnce = 200;
const settleMs = 20_000;

/** One connection, whose body arrives in chunks, each of which is a message. */
class Watcher {
  readonly socket: Socket;
  messages = 0;
  private readonly onMessage: (body: Buffer, watcher: Watcher) => void;
  private rest: Buffer | undefined;
  private begun = false;

  constructor(socket: Socket, onMessage: (body: Buffer, watcher: Watcher) => void) {
    this.socket = socket;
    this.onMessage = onMessage;
    socket.on("data", (chunk: Buffer) => this.take(chunk));
  }

  private take(chunk: Buffer): void {
    let data = this.rest ? Buffer.concat([this.rest, chunk]) : chunk;
    this.rest = undefined;
    if (!this.begun) {
      const end = data.indexOf("\r\n\r\n");
      if (end < 0) {
        this.rest = data;
        return;
      }
      if (data[9] !== 0x32) throw new Error(`a watcher was refused: ${data.toString("latin1")}`);
      this.begun = true;
      data = data.subarray(end + 4);
    }
    let at = 0;
    while (at < data.length) {
      let size = 0;
      let place = at;
      for (; place < data.length && data[place] !== 0x0d; place++) {
        const code = data[place] as number;
        size = 16 * size + (code < 0x3a ? code - 0x30 : (code | 0x20) - 0x57);
      }
      const body = place + 2;
      if (body + size + 2 > data.length) break;
      this.messages++;
      this.onMessage(data.subarray(body, body + size), this);
      at = body + size + 2;
    }
    if (at < data.length) this.rest = data.subarray(at);
  }
}

interface Opened {
  readonly watchers: readonly Watcher[];
  /** How many changes each watcher has had. */
  changesOf(watcher: Watcher): number;
  onChange: ((changes: number, watcher: Watcher) => void) | undefined;
}

async function open(command: WatchCommand): Promise<Opened> {
  const { hostname, port, host } = new URL(command.url);
  const request = requestOf(command, host);
  const counts = new Map<Watcher, number>();
  const ready = Promise.withResolvers<void>();
  let waiting = command.watchers;
  const opened: Opened = {
    watchers: [],
    changesOf: (watcher) => counts.get(watcher) ?? 0,
    onChange: undefined,
  };
  // A message that goes to all is read once, like it is written once.
  let lastBody: Buffer | undefined;
  let lastChanges = 0;
  const changesIn = (body: Buffer): number => {
    if (command.kind === "sse") return 1;
    if (!lastBody?.equals(body)) {
      lastBody = Buffer.from(body);
      const { deltas } = fromBinary(ProgressService.method.watchProgress.output, body.subarray(5));
      lastChanges = deltas.length;
    }
    return lastChanges;
  };
  const begin = () => {
    if (--waiting === 0) ready.resolve();
  };
  const onMessage = (body: Buffer, watcher: Watcher) => {
    if (command.kind === "ours" && watcher.messages === 1) {
      begin();
      return;
    }
    const changes = changesIn(body);
    if (changes === 0) return;
    counts.set(watcher, (counts.get(watcher) ?? 0) + changes);
    opened.onChange?.(changes, watcher);
  };
  const watchers: Watcher[] = [];
  for (let start = 0; start < command.watchers; start += connectsAtOnce) {
    const some = Array.from({ length: Math.min(connectsAtOnce, command.watchers - start) }, async () => {
      const socket = connect({ host: hostname, port: Number(port) });
      await once(socket, "connect");
      const watcher = new Watcher(socket, onMessage);
      watchers.push(watcher);
      socket.write(request);
      if (command.kind === "sse") {
        await once(socket, "data");
        begin();
      }
    });
    await Promise.all(some);
  }
  await ready.promise;
  return Object.assign(opened, { watchers });
}

function requestOf({ kind, apiKey, clientKrn, filename }: WatchCommand, host: string): Buffer {
  if (kind === "sse") return Buffer.from(`GET /watch HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
  const method = ProgressService.method.watchProgress;
  const message = toBinary(method.input, create(method.input, { clientKrn, filename }));
  const envelope = Buffer.alloc(5);
  envelope.writeUInt32BE(message.length, 1);
  const head =
    `POST /${ProgressService.typeName}/${method.name} HTTP/1.1\r\nhost: ${host}\r\nx-api-key: ${apiKey}\r\n` +
    `content-type: application/connect+proto\r\ncontent-length: ${message.length + 5}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head), envelope, message]);
}

async function run(command: WatchCommand, opened: Opened): Promise<WatchRound> {
  const { watchers } = opened;
  await using updating = await http1Workload(command.updates);
  const before = watchers.reduce((sum, { messages }) => sum + messages, 0);
  const delays: number[] = [];
  const sentAt: number[] = [];
  let changes = 0;
  opened.onChange = (count, watcher) => {
    changes += count;
    const sent = sentAt[opened.changesOf(watcher) - 1];
    if (sent !== undefined) delays.push(performance.now() - sent);
  };
  let updates = 0;
  const started = performance.now();
  const end = started + command.seconds * 1_000;
  const { updatesPerSecond } = command;
  if (updatesPerSecond) {
    const [call] = updating.callers;
    for (let turn = 0; performance.now() < end; turn++) {
      const due = started + (turn * 1_000) / updatesPerSecond;
      await sleep(Math.max(0, due - performance.now()));
      sentAt.push(performance.now());
      await call?.();
      updates++;
    }
  } else {
    const each = async (call: () => Promise<number>) => {
      while (performance.now() < end) {
        await call();
        updates++;
      }
    };
    await Promise.all(updating.callers.map(each));
  }
  const measured = { changes, seconds: (performance.now() - started) / 1_000 };
  const messages = watchers.reduce((sum, each) => sum + each.messages, 0) - before;
  const complete = () => {
    const most = Math.max(...watchers.slice(0, 50).map((watcher) => opened.changesOf(watcher)));
    return watchers.every((watcher) => opened.changesOf(watcher) === most);
  };
  for (const limit = performance.now() + settleMs; ; await sleep(100)) {
    const now = changes;
    await sleep(300);
    if ((now === changes && complete()) || performance.now() > limit) break;
  }
  const most = watchers.reduce((max, watcher) => Math.max(max, opened.changesOf(watcher)), 0);
  delays.sort((a, b) => a - b);
  const quantile = (q: number) => delays[Math.floor((delays.length - 1) * q)] ?? Number.NaN;
  return {
    seconds: measured.seconds,
    updates,
    messages,
    changes: measured.changes,
    faulty: watchers.filter((watcher) => opened.changesOf(watcher) !== most).length,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    maxMs: quantile(1),
  };
}

const tell = (answer: WatchAnswer) => process.send?.(answer);
const failed = (error: unknown) =>
  tell({ error: error instanceof Error ? (error.stack ?? "") : String(error) });
process.on("disconnect", () => process.exit());
process.on("uncaughtException", failed);
process.once("message", (command: WatchCommand) => {
  open(command)
    .then(async (opened) => {
      tell({ ready: true });
      await once(process, "message");
      tell({ round: await run(command, opened) });
    })
    .catch(failed);
});
