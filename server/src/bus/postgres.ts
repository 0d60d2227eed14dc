import { setTimeout as sleep } from "node:timers/promises";
import { Client, type ClientConfig } from "pg";
import type { Logger } from "pino";
import { serviceConnection } from "../db/connection.ts";
import { type Bus, type BusTiming, busTiming, retryDelayMs } from "./bus.ts";
import { createSubscribers, envelopeOf, notSent } from "./subscribers.ts";

/** One channel of PostgreSQL's for all of ours: LISTEN for each would take effect some time after `subscribe`. */
const carrier = "pulsewire_bus";

/**
 * A bus on LISTEN and NOTIFY, over one connection of its own. It reaches the processes that are connected to the same
 * database, not through a pooler in transaction mode. Resolves when it is connected.
 */
export async function createPostgresBus(
  connection: ClientConfig,
  logger: Logger,
  departures: Partial<BusTiming> = {},
): Promise<Bus> {
  const timing = { ...busTiming, ...departures };
  const subscribers = createSubscribers(logger);
  const closing = new AbortController();
  let connected = Promise.withResolvers<Line>();
  let isConnected = true;

  const open = async (): Promise<Line> => {
    const client = new Client({ ...serviceConnection(connection), application_name: "pulsewire-bus" });
    // 'end' follows, which is what counts; without a listener the process would end.
    client.on("error", () => {});
    client.on("notification", ({ payload }) => subscribers.deliver(payload ?? ""));
    try {
      await client.connect();
      // A message need not survive a crash of the database, after which there is a gap anyway.
      await client.query(`listen ${carrier}; set synchronous_commit = off`);
      return createLine(client);
    } catch (error) {
      await client.end();
      throw error;
    }
  };

  const reconnect = async (): Promise<Line | undefined> => {
    for (let attempt = 0; ; attempt++) {
      try {
        await sleep(retryDelayMs(attempt, timing), undefined, { signal: closing.signal });
        return await open();
      } catch (err) {
        if (closing.signal.aborted) return undefined;
        logger.debug({ err, attempt }, "the bus cannot connect yet");
      }
    }
  };

  const stayConnected = async (first: Line): Promise<void> => {
    let line: Line | undefined = first;
    for (;;) {
      await untilLost(line, timing, closing.signal);
      if (!closing.signal.aborted) {
        isConnected = false;
        connected = unheard();
        logger.warn("the bus has lost its database connection; connecting again");
      }
      await Promise.race([line.client.end(), sleep(timing.silenceMs, undefined, { ref: false })]);
      line = closing.signal.aborted ? undefined : await reconnect();
      if (!line) return;
      logger.info("the bus is connected again");
      subscribers.tellGap();
      isConnected = true;
      connected.resolve(line);
    }
  };

  const publish = async (envelope: string, signal: AbortSignal): Promise<void> => {
    for (;;) {
      const line = await orAborted(connected.promise, signal);
      try {
        await orAborted(line.send(envelope), signal);
        return;
      } catch (error) {
        // A line that broke under way; whether the message got through cannot be known, so it is sent again.
        if (signal.aborted || isSqlError(error)) throw error;
        if (isConnected) await sleep(timing.retryMinMs, undefined, { signal });
      }
    }
  };

  const first = await open();
  connected.resolve(first);
  const ended = stayConnected(first);
  return {
    subscribe: subscribers.subscribe,
    onGap: subscribers.onGap,
    get connected() {
      return isConnected;
    },
    async publish(channel, message) {
      const envelope = envelopeOf(channel, message);
      const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(timing.publishTimeoutMs)]);
      try {
        await publish(envelope, signal);
      } catch (cause) {
        if (isSqlError(cause)) throw cause;
        throw notSent(closing.signal.aborted, cause);
      }
    },
    async close() {
      isConnected = false;
      closing.abort();
      await ended;
    },
  };
}

/** A connection, with one query at a time; messages that come meanwhile go out together with the next. */
interface Line {
  readonly client: Client;
  send(envelope: string): Promise<void>;
  ping(): Promise<void>;
}

function createLine(client: Client): Line {
  let last: Promise<unknown> = Promise.resolve();
  let next: { envelopes: string[]; sent: Promise<void> } | undefined;
  const queue = (query: () => Promise<unknown>): Promise<void> => {
    const run = last.then(query).then(() => {});
    last = run.catch(() => {});
    return run;
  };
  return {
    client,
    ping: () => queue(() => client.query("select")),
    send(envelope) {
      if (!next) {
        const envelopes: string[] = [];
        const sent = queue(() => {
          next = undefined;
          return client.query(
            "select pg_notify($1, envelope) from unnest($2::text[]) with ordinality as m (envelope, i) order by i",
            [carrier, envelopes],
          );
        });
        next = { envelopes, sent };
      }
      next.envelopes.push(envelope);
      return next.sent;
    },
  };
}

function unheard(): PromiseWithResolvers<Line> {
  const waiting = Promise.withResolvers<Line>();
  waiting.promise.catch(() => {});
  return waiting;
}

/** An error that the database sent, as against one of the line. */
function isSqlError(error: unknown): boolean {
  const { severity, code = "" } = error as { severity?: string; code?: string };
  return severity !== undefined && !code.startsWith("57");
}

/** Resolves when the connection has ended, answers no more, or the bus is closed. */
async function untilLost({ client, ping }: Line, timing: BusTiming, closing: AbortSignal): Promise<void> {
  const over = new AbortController();
  const end = () => over.abort();
  client.once("end", end);
  client.once("error", end);
  const signal = AbortSignal.any([over.signal, closing]);
  try {
    for (;;) {
      await sleep(timing.heartbeatMs, undefined, { signal });
      const query = ping().then(() => "answer");
      const silence = sleep(timing.silenceMs, "silence", { signal });
      silence.catch(() => {});
      if ((await Promise.race([query, silence])) === "silence") return;
    }
  } catch {
    // Ended, closed, or the heartbeat failed.
  } finally {
    over.abort();
    client.off("end", end);
    client.off("error", end);
  }
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener("abort", abort, { once: true });
  return Promise.race([promise, aborted.promise]).finally(() => signal.removeEventListener("abort", abort));
}
