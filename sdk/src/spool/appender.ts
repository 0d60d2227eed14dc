import { closeSync, fdatasyncSync, ftruncateSync, openSync } from "node:fs";
import { syncDirectory, syncInBackground, writeAll } from "./files.ts";
import type { LaneOptions } from "./lane-options.ts";
import { headerBytes, recordBuffer, scan, writeRecord } from "./record.ts";
import { newSegment, type Segment, type SegmentOwner, seal } from "./segment.ts";

/** What an {@link Appender} tells. */
export interface AppenderListener {
  onBegun(segment: Segment): void;
  onWritten(records: number): void;
  /** The segment takes nothing more. */
  onEnded(segment: Segment): void;
  /** A record could not be written to the segment, and no copy of it is held. */
  onUnwritten(sequence: number, segment: Segment, payload: Buffer): void;
}

/** Records that one write takes at most: what a killed process can lose. */
const maxBuffered = 128;
const bufferBytes = 64 * 1024;
/** After a write that failed nothing is written for this long. */
const failurePauseMs = 1_000;

/** Appends records to the newest segment of a lane, many with one write. */
export class Appender {
  readonly #options: LaneOptions;
  readonly #owner: SegmentOwner;
  readonly #listener: AppenderListener;
  readonly #buffer = recordBuffer(Buffer.allocUnsafeSlow(bufferBytes));
  #used = 0;
  /** Records that wait for their write, and how many of them somebody holds a copy of: those come first. */
  #buffered = 0;
  #held = 0;
  /** The highest sequence so far. */
  #last = 0;
  #active: { segment: Segment; fd: number } | undefined;
  #dirty = false;
  #directoryDirty = false;
  #failingUntil = 0;

  constructor(options: LaneOptions, owner: SegmentOwner, listener: AppenderListener) {
    this.#options = options;
    this.#owner = owner;
    this.#listener = listener;
  }

  /** The segment that is appended to. */
  get segment(): Segment | undefined {
    return this.#active?.segment;
  }

  /** Records that wait for their write. */
  get buffered(): number {
    return this.#buffered;
  }

  /** Where the next record will lie in its segment. */
  get offset(): number {
    return (this.#active?.segment.size ?? 0) + this.#used;
  }

  /** The segment for a record of this size; `undefined` while the disk takes nothing. */
  segmentFor(sequence: number, payloadBytes: number): Segment | undefined {
    if (this.#failingUntil > 0 && performance.now() < this.#failingUntil) return undefined;
    const bytes = headerBytes + payloadBytes;
    if (this.#used + bytes > bufferBytes) this.write();
    const { segmentBytes, directory, name, sync } = this.#options;
    const active = this.#active?.segment;
    const used = this.offset;
    if (active && (used === 0 || used + bytes <= segmentBytes)) return active;
    this.write();
    this.endSegment();
    this.#options.beforeSegment();
    // A program that is told of a drop may have queued something, which has begun a segment.
    if (this.#active) return this.segmentFor(sequence, payloadBytes);
    try {
      const segment = newSegment(this.#owner, directory, name, sequence);
      this.#active = { segment, fd: openSync(segment.path, "ax") };
      this.#listener.onBegun(segment);
      if (sync === "always") syncDirectory(directory);
      this.#directoryDirty = true;
      this.#failingUntil = 0;
      return segment;
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  /**
   * Appends to the segment that segmentFor() gave.
   *
   * @param held somebody keeps a copy; only where that is so of all that wait for their write
   */
  append(sequence: number, segment: Segment, timeMs: number, payload: Uint8Array, held: boolean): void {
    const bytes = headerBytes + payload.length;
    this.#buffered++;
    if (held) this.#held++;
    this.#last = Math.max(this.#last, sequence);
    if (bytes > bufferBytes) {
      const buffer = recordBuffer(Buffer.allocUnsafe(bytes));
      writeRecord(buffer, 0, segment.salt, sequence, timeMs, payload);
      this.#write(buffer.bytes);
      return;
    }
    this.#used = writeRecord(this.#buffer, this.#used, segment.salt, sequence, timeMs, payload);
    if (this.#buffered >= maxBuffered) this.write();
  }

  /** Writes what is buffered. */
  write(): void {
    if (this.#buffered > 0) this.#write(this.#buffer.bytes.subarray(0, this.#used));
  }

  /** Forces onto the disk what is written, without waiting for it. */
  sync(): void {
    const { directory, onError } = this.#options;
    if (!this.#active || !this.#dirty) return;
    this.#dirty = false;
    syncInBackground(this.#active.segment.path, onError);
    if (this.#directoryDirty) syncInBackground(directory, onError);
    this.#directoryDirty = false;
  }

  /** Writes and syncs everything. */
  close(): void {
    this.write();
    const { sync, directory, onError } = this.#options;
    try {
      if (this.#active && sync !== "none") fdatasyncSync(this.#active.fd);
      this.endSegment();
      // For the new name of the segment.
      if (sync !== "none") syncDirectory(directory);
    } catch (error) {
      this.endSegment();
      onError(error as Error);
    }
  }

  /** Begins a new segment with the next record. */
  endSegment(): void {
    if (!this.#active) return;
    const { segment, fd } = this.#active;
    this.#active = undefined;
    try {
      closeSync(fd);
      seal(segment);
      // The next segment's turn must not wait for the disk.
      if (this.#options.sync === "interval" && segment.remaining > 0) {
        syncInBackground(segment.path, this.#options.onError);
      }
    } catch (error) {
      segment.sealed = true;
      this.#options.onError(error as Error);
    }
    this.#listener.onEnded(segment);
  }

  #write(bytes: Buffer): void {
    const [records, held] = [this.#buffered, this.#held];
    this.#buffered = 0;
    this.#held = 0;
    this.#used = 0;
    if (!this.#active) return;
    const { segment, fd } = this.#active;
    try {
      writeAll(fd, bytes, segment.size);
      if (this.#options.sync === "always") fdatasyncSync(fd);
    } catch (error) {
      this.#undo(held, bytes, segment, fd, error);
      return;
    }
    this.#dirty = true;
    segment.size += bytes.length;
    segment.records += records;
    segment.remaining += records;
    segment.last = this.#last;
    this.#listener.onWritten(records);
  }

  /** A write failed: what it left is cut off, and the records are handed back of which no copy is held. */
  #undo(held: number, bytes: Buffer, segment: Segment, fd: number, error: unknown): void {
    this.#fail(error);
    try {
      ftruncateSync(fd, segment.size);
    } catch (truncating) {
      // What is left of the write is skipped when the segment is read.
      this.#options.onError(truncating as Error);
    }
    let index = 0;
    scan(recordBuffer(bytes), segment.salt, true, (sequence, start, end) => {
      if (index++ >= held) this.#listener.onUnwritten(sequence, segment, bytes.subarray(start, end));
    });
    this.endSegment();
  }

  #fail(error: unknown): void {
    this.#failingUntil = performance.now() + failurePauseMs;
    this.#options.onError(error as Error);
  }
}
