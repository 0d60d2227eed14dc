import { readRange } from "./files.ts";
import type { LaneOptions } from "./lane-options.ts";
import { type ScannedRecord, scan } from "./record.ts";
import type { Segment } from "./segment.ts";

const readBytes = 256 * 1024;

/** What one read of a segment found. */
export interface Read {
  /** Whole records, also those that were settled. Their payloads are good until the next read. */
  records: ScannedRecord[];
  /** Nothing more is in the segment. */
  end: boolean;
}

/** Reads segments, piece by piece. */
export class SegmentReader {
  readonly #options: LaneOptions;
  #bytes = readBytes;
  /** One for all reads: garbage of that size is collected late, and would be most of the memory in use. */
  #buffer: Buffer | undefined;

  constructor(options: LaneOptions) {
    this.#options = options;
  }

  /** Reads on where the segment was read last; `undefined` where its file cannot be read. */
  read(segment: Segment): Read | undefined {
    const chunk = this.#chunk(segment);
    if (!chunk) return undefined;
    const end = chunk.length < this.#bytes || segment.readOffset + chunk.length >= segment.size;
    const { records, broken, consumed } = scan(chunk, segment.salt, end);
    for (const [from, to] of broken) {
      this.#options.onBroken(segment, segment.readOffset + from, chunk.subarray(from, to));
    }
    segment.readOffset += consumed;
    // A record may be larger than what was read.
    this.#bytes = consumed === 0 ? this.#bytes * 2 : readBytes;
    return { records, end };
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
