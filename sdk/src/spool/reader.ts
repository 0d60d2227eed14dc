import { readRange } from "./files.ts";
import type { LaneOptions } from "./lane-options.ts";
import { recordBuffer, scan } from "./record.ts";
import type { Segment } from "./segment.ts";

const readBytes = 256 * 1024;

/** Told of a record; its payload is good until the next read. */
export type OnRead = (bytes: Buffer, sequence: number, start: number, end: number) => void;

/** Reads segments, piece by piece. */
export class SegmentReader {
  readonly #options: LaneOptions;
  #bytes = readBytes;
  /** One for all reads: garbage of that size is collected late, and would be most of the memory in use. */
  #buffer: Buffer | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /**
   * Reads on where the segment was read last, and tells of the whole records, also those that were settled.
   *
   * @returns whether nothing more is in the segment; `undefined` where its file cannot be read
   */
  read(segment: Segment, onRead: OnRead): boolean | undefined {
    const chunk = this.#chunk(segment);
    if (!chunk) return undefined;
    const end = chunk.length < this.#bytes || segment.readOffset + chunk.length >= segment.size;
    const { broken, consumed } = scan(recordBuffer(chunk), segment.salt, end, (sequence, start, end) =>
      onRead(chunk, sequence, start, end),
    );
    for (const [from, to] of broken) {
      this.#options.onBroken(segment, segment.readOffset + from, chunk.subarray(from, to));
    }
    segment.readOffset += consumed;
    // A record may be larger than what was read.
    this.#bytes = consumed === 0 ? this.#bytes * 2 : readBytes;
    return end;
  }

  #chunk(segment: Segment): Buffer | undefined {
    try {
      const length = Math.max(0, Math.min(this.#bytes, segment.size - segment.readOffset));
      this.#buffer ??= Buffer.allocUnsafeSlow(readBytes);
      return readRange(segment.path, segment.readOffset, length, this.#buffer);
    } catch (error) {
      this.#options.onError(error as Error);
      return undefined;
    }
  }
}
