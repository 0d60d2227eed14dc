import { appendFileSync, readFileSync } from "node:fs";
import { crc32 } from "node:zlib";

/** Records that a frame has room for. */
export const maxAcks = 10_000;

/** Says which records are settled: count 4, CRC 4, then 4 for each record. Can be used again and again. */
export class AckFrame {
  readonly #bytes = Buffer.allocUnsafeSlow(8 + maxAcks * 4);
  /** The same bytes: a method of Buffer would make some garbage for each record. */
  readonly #view = new DataView(this.#bytes.buffer);
  #count = 0;

  /** Adds a record; there must be room. Returns how many there are. */
  push(record: number): number {
    this.#view.setUint32(8 + this.#count * 4, record);
    return ++this.#count;
  }

  /** Appends it to a file. */
  appendTo(path: string): void {
    const frame = this.#bytes.subarray(0, 8 + this.#count * 4);
    frame.writeUInt32BE(this.#count, 0);
    frame.writeUInt32BE(crc32(frame.subarray(8), this.#count), 4);
    appendFileSync(path, frame);
  }

  clear(): void {
    this.#count = 0;
  }
}

/**
 * Reads which records are settled, up to the first frame that is broken: what is missing is only sent once more, and
 * the ids of events make that harmless.
 */
export function readAcks(path: string): Set<number> {
  const acked = new Set<number>();
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch {
    // None yet, or unreadable: all are sent.
    return acked;
  }
  for (let offset = 0; offset + 8 <= file.length; ) {
    const count = file.readUInt32BE(offset);
    const body = file.subarray(offset + 8, offset + 8 + count * 4);
    if (body.length !== count * 4 || crc32(body, count) !== file.readUInt32BE(offset + 4)) break;
    for (let index = 0; index < count; index++) acked.add(body.readUInt32BE(index * 4));
    offset += 8 + count * 4;
  }
  return acked;
}
