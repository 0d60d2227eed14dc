/**
 * Reads the output of containers into the logs, one reader for each container.
 *
 * Lines and the position behind them are committed together. Whatever cuts a reader off, the next one goes on where the
 * database says: nothing is missing and nothing is there twice.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type { JsonValue } from "@bufbuild/protobuf";
import type { Logger } from "pino";
import type { Bus } from "../../bus/bus.ts";
import { logChannel, tell } from "../channels.ts";
import { appendLines, endSource, openSource } from "../logs/store.ts";
import type { RawLine, Runtime, Unit } from "../runtime/runtime.ts";
import type { Tenure } from "./tenure.ts";

/** Most lines of a chunk, and of those that wait for a commit: beyond, reading pauses. */
const chunkLines = 4_000;
const chunkChars = 1024 * 1024;
const maxWaiting = 3 * chunkLines;
/** For how long a first line waits for others to be committed with it. */
const gatherMs = 20;
const retryMs = { first: 200, max: 5_000 };

export interface Capture {
  /** Reads this container, if nobody does yet. Resolves when all of it has been read. */
  read(unit: Unit): Promise<void>;
  /** Whether all has been read. */
  isRead(unitId: string): boolean;
  /** Whether containers of a function are being read. */
  isReading(functionId: string): boolean;
  /** Forgets a container that is gone. */
  forget(unitId: string): void;
  /** Waits until all readers have ended, which they do with the tenure. */
  close(): Promise<void>;
}

interface Reader {
  readonly functionId: string;
  readonly ended: Promise<void>;
  done: boolean;
}

export function createCapture(runtime: Runtime, tenure: Tenure, bus: Bus, logger: Logger): Capture {
  const readers = new Map<string, Reader>();

  const readAll = async (unit: Unit) => {
    for (let pause = retryMs.first; ; pause = Math.min(pause * 2, retryMs.max)) {
      try {
        const source = await tenure.writeIn(unit.tenantId, (trx) => openSource(trx, unit));
        if (source.ended) return;
        await readFrom(unit, (source.position as JsonValue | null) ?? undefined);
        await tenure.writeIn(unit.tenantId, (trx) => endSource(trx, unit));
        tell(bus, logger, logChannel(unit.functionId), "");
        return;
      } catch (err) {
        tenure.signal.throwIfAborted();
        logger.warn(
          { err, unit: unit.id, functionId: unit.functionId },
          "a log could not be read; reading on",
        );
        await sleep(pause, undefined, { signal: tenure.signal });
      }
    }
  };

  const readFrom = async (unit: Unit, position: JsonValue | undefined) => {
    let waiting: RawLine[] = [];
    let reached = position;
    let writing: Promise<void> | undefined;
    const stopped = new AbortController();
    const signal = AbortSignal.any([tenure.signal, stopped.signal]);

    const write = async () => {
      if (waiting.length < chunkLines) await sleep(gatherMs);
      while (waiting.length > 0) {
        // A position belongs to all lines before it: they are committed with it, in as many chunks as they fill.
        const [lines, until] = [waiting, reached];
        waiting = [];
        await tenure.writeIn(unit.tenantId, async (trx) => {
          for (const part of parts(lines)) await appendLines(trx, unit, part, until);
        });
        tell(bus, logger, logChannel(unit.functionId), "");
      }
    };
    try {
      for await (const batch of runtime.readLog(unit, position, signal)) {
        waiting = waiting.length > 0 ? waiting.concat(batch.lines) : [...batch.lines];
        reached = batch.position;
        if (!writing) {
          const begun = write().finally(() => {
            writing = undefined;
          });
          // Noticed by the next await; the reader ends with it.
          begun.catch((error: unknown) => stopped.abort(error));
          writing = begun;
        }
        if (waiting.length >= maxWaiting) await writing;
      }
      while (writing) await writing;
      stopped.signal.throwIfAborted();
    } finally {
      // Nothing may be written behind the back of the next reader.
      await (writing as Promise<void> | undefined)?.catch(() => {});
    }
  };

  return {
    read(unit) {
      const known = readers.get(unit.id);
      if (known) return known.ended;
      const reader: Reader = {
        functionId: unit.functionId,
        done: false,
        ended: readAll(unit).then(() => {
          reader.done = true;
        }),
      };
      // Ends with the tenure; whoever waits hears of it.
      reader.ended.catch(() => {});
      readers.set(unit.id, reader);
      return reader.ended;
    },
    isRead: (unitId) => readers.get(unitId)?.done ?? false,
    isReading: (functionId) =>
      [...readers.values()].some((reader) => reader.functionId === functionId && !reader.done),
    forget(unitId) {
      if (readers.get(unitId)?.done) readers.delete(unitId);
    },
    async close() {
      await Promise.allSettled([...readers.values()].map(({ ended }) => ended));
    },
  };
}

function* parts(lines: readonly RawLine[]): Generator<readonly RawLine[]> {
  let start = 0;
  let chars = 0;
  for (let index = 0; index < lines.length; index++) {
    chars += lines[index]?.text.length ?? 0;
    if (index - start + 1 >= chunkLines || chars >= chunkChars) {
      yield lines.slice(start, index + 1);
      start = index + 1;
      chars = 0;
    }
  }
  if (start < lines.length) yield lines.slice(start);
}
