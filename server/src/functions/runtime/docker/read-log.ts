/** Reads a container's log through the Engine API: frames of an eight-byte header and one part of a line each. */
import { Readable } from "node:stream";
import type { JsonValue } from "@bufbuild/protobuf";
import type Dockerode from "dockerode";
import type { LogBatch } from "../runtime.ts";
import { nanosOf, sinceOf, TimedLines, type TimedPosition } from "../timed-lines.ts";

const headerBytes = 8;

/** What stands behind a position; with `follow` also what comes until the container ends or the connection is lost. */
export async function* readLog(
  container: Dockerode.Container,
  position: JsonValue | undefined,
  signal: AbortSignal,
  follow: boolean,
): AsyncGenerator<LogBatch> {
  const lines = new TimedLines(position);
  const since = sinceOf(position as TimedPosition | undefined);
  const options = {
    stdout: true,
    stderr: true,
    timestamps: true,
    ...(since && { since: since as never }),
    abortSignal: signal,
  };
  const stream = follow
    ? ((await container.logs({ ...options, follow: true })) as unknown as Readable)
    : Readable.from([await container.logs({ ...options, follow: false })]);
  let rest: Buffer = Buffer.alloc(0);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      rest = takeFrames(rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk, lines);
      const batch = lines.flush();
      if (batch) yield batch;
    }
  } finally {
    stream.destroy();
  }
  lines.finish();
  const batch = lines.flush();
  if (batch) yield batch;
}

/** Takes whole frames and returns what is left. */
function takeFrames(bytes: Buffer, lines: TimedLines): Buffer {
  let offset = 0;
  while (bytes.length - offset >= headerBytes) {
    const length = bytes.readUInt32BE(offset + 4);
    const end = offset + headerBytes + length;
    if (bytes.length < end) break;
    takeFrame(bytes[offset] === 2 ? 2 : 1, bytes.subarray(offset + headerBytes, end), lines);
    offset = end;
  }
  return bytes.subarray(offset);
}

function takeFrame(stream: 1 | 2, payload: Buffer, lines: TimedLines): void {
  const space = payload.indexOf(0x20);
  const time = space > 0 && space < 48 ? nanosOf(payload.toString("latin1", 0, space)) : undefined;
  if (time === undefined) return;
  const ends = payload[payload.length - 1] === 0x0a;
  lines.take(stream, time, payload.subarray(space + 1, ends ? payload.length - 1 : payload.length), ends);
}
