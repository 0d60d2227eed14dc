/** Stored chunks as the lines and messages of the contract. */
import { create } from "@bufbuild/protobuf";
import type { TenantTransaction } from "../../db/tenant.ts";
import {
  type LogLine,
  LogLineSchema,
  LogStream,
  type StreamLogsResponse,
  StreamLogsResponseSchema,
} from "../../gen/pulsewire/functions/v1/log_pb.js";
import type { RawLine } from "../runtime/runtime.ts";
import type { FunctionRow } from "../store.ts";
import { decodeLines } from "./chunk.ts";
import { type ChunkFilter, type ChunkRow, chunksBefore } from "./store.ts";

export interface LineFilter extends ChunkFilter {
  /** `since` to the nanosecond, in decimal. */
  readonly sinceNanos: string | undefined;
  /** UNSPECIFIED: both. */
  readonly stream: LogStream;
}

/** Lines and text of one message, at most. */
const messageLines = 1_000;
const messageChars = 512 * 1024;
/** Chunks that are looked at in one go for the beginning of a tail. */
const chunksAtOnce = 8;

/** Lines of these chunks after a number that match. */
export function matchingLines(chunks: readonly ChunkRow[], after: bigint, filter: LineFilter): LogLine[] {
  return chunks.flatMap((chunk) => {
    const skip = after < chunk.first_line ? 0 : Number(after - chunk.first_line) + 1;
    const lines: LogLine[] = [];
    const all = decodeLines(chunk.lines);
    for (let index = skip; index < all.length; index++) {
      const line = all[index];
      if (line && matches(line, filter)) lines.push(lineMessage(chunk, index, line));
    }
    return lines;
  });
}

/** Messages of a bounded size, each with the cursor behind it. Without lines: one that is empty, at a position. */
export function messagesOf(
  lines: readonly LogLine[],
  cursorAt: (position: bigint) => string,
  position?: bigint,
): StreamLogsResponse[] {
  const messages: StreamLogsResponse[] = [];
  for (let start = 0; start < lines.length; ) {
    let chars = 0;
    let end = start;
    while (end < lines.length && end - start < messageLines && chars < messageChars) {
      chars += lines[end]?.text.length ?? 0;
      end++;
    }
    const part = lines.slice(start, end);
    messages.push(
      create(StreamLogsResponseSchema, { lines: part, cursor: cursorAt(part.at(-1)?.number ?? 0n) }),
    );
    start = end;
  }
  if (position !== undefined && messages.length === 0) {
    messages.push(create(StreamLogsResponseSchema, { cursor: cursorAt(position) }));
  }
  return messages;
}

/** The position before the last `count` lines that match, among those that are kept. */
export async function startOfTail(
  trx: TenantTransaction,
  fn: Pick<FunctionRow, "tenant_id" | "id">,
  filter: LineFilter,
  count: number,
  removedUntil: bigint,
): Promise<bigint> {
  let missing = count;
  let before: bigint | undefined;
  for (;;) {
    const chunks = await chunksBefore(trx, fn.tenant_id, fn.id, filter, before, chunksAtOnce);
    for (const chunk of chunks) {
      const lines = decodeLines(chunk.lines);
      for (let index = lines.length - 1; index >= 0; index--) {
        const line = lines[index];
        if (line && matches(line, filter) && --missing === 0) return chunk.first_line + BigInt(index) - 1n;
      }
      before = chunk.last_line;
    }
    if (chunks.length < chunksAtOnce) return removedUntil;
  }
}

function matches({ time, stream }: RawLine, filter: LineFilter): boolean {
  if (filter.stream !== LogStream.UNSPECIFIED && stream !== filter.stream) return false;
  if (filter.sinceNanos === undefined) return true;
  return (
    time.length > filter.sinceNanos.length ||
    (time.length === filter.sinceNanos.length && time >= filter.sinceNanos)
  );
}

function lineMessage(chunk: ChunkRow, index: number, { time, stream, text, continues }: RawLine): LogLine {
  return create(LogLineSchema, {
    number: chunk.first_line + BigInt(index),
    time: { seconds: BigInt(time.slice(0, -9)), nanos: Number(time.slice(-9)) },
    stream: stream === 2 ? LogStream.STDERR : LogStream.STDOUT,
    replica: chunk.replica,
    invocationId: chunk.invocation_id ?? "",
    attempt: chunk.attempt,
    text,
    continues,
  });
}
