import {
  closeSync,
  fdatasyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { appendAcks } from "./acks.ts";
import { readRange, syncDirectory, syncInBackground, writeAll } from "./files.ts";
import type { LaneOptions, LossReason } from "./lane-options.ts";
import { headerBytes, scan, writeRecord } from "./record.ts";
import { newSegment, openSegment, type Segment, seal } from "./segment.ts";
import { Ticket } from "./ticket.ts";

/** A record read back. */
export interface LaneRecord {
  ticket: Ticket;
  /** Good until the next read. */
  payload: Uint8Array;
}

/** A record that waits for its write. */
interface Buffered extends LaneRecord {
  /** A copy is in memory. */
  held: boolean;
}

/** Records that one write takes at most: what a killed process can lose. */
const maxBuffered = 128;
const bufferBytes = 64 * 1024;
const readBytes = 256 * 1024;
/** After a write that failed nothing is written for this long. */
const failurePauseMs = 1_000;

/** A log of records in order: appended at one end, read at the other, settled in any order. */
export class Lane {
  readonly #options: LaneOptions;
  readonly #segments: Segment[] = [];
  readonly #withAcks = new Set<Segment>();
  readonly #buffer = Buffer.allocUnsafeSlow(bufferBytes);
  #buffered: Buffered[] = [];
  #used = 0;
  #active: { segment: Segment; fd: number } | undefined;
  #dirty = false;
  #directoryDirty = false;
  #failingUntil = 0;
  #scheduled: NodeJS.Immediate | undefined;
  #unread = 0;
  #persisted = 0;
  #readBytes = readBytes;
  /** One for all reads: garbage of that size is collected late, and would be most of the memory in use. */
  #readBuffer: Buffer | undefined;

  /** Opens what is there. */
  constructor(options: LaneOptions) {
    this.#options = options;
    for (const name of readdirSync(options.directory).sort()) {
      try {
        const segment = openSegment(options.directory, options.name, name);
        if (segment) this.#adopt(segment);
      } catch (error) {
        options.onError(error as Error);
      }
    }
  }

  #adopt(segment: Segment): void {
    if (segment.records === 0 && segment.size > 0)
      this.#options.onBroken(segment, 0, readFileSync(segment.path));
    this.#segments.push(segment);
    this.#unread += segment.unread;
    this.#persisted += segment.remaining;
    this.#removeIfDone(segment);
  }

  /** Records of which no copy is in memory. */
  get unread(): number {
    return this.#unread;
  }

  /** Records that are written and not settled. */
  get persisted(): number {
    return this.#persisted;
  }

  /** The highest sequence in it, 0 where it is empty. */
  get last(): number {
    return this.#segments.reduce((last, segment) => Math.max(last, segment.last), 0);
  }

  /** Bytes on the disk. */
  get size(): number {
    return this.#segments.reduce((sum, { size }) => sum + size, 0);
  }

  /** Segments on the disk. */
  get segments(): number {
    return this.#segments.length;
  }

  /**
   * Takes a record; it is written within this turn of the event loop, or with the 128th.
   *
   * @param held the caller keeps a copy: it is not to be read. Only while nothing is unread
   * @returns `undefined` while the disk takes nothing
   */
  append(sequence: number, payload: Uint8Array, held: boolean): Ticket | undefined {
    if (performance.now() < this.#failingUntil) return undefined;
    const bytes = headerBytes + payload.length;
    if (this.#used + bytes > bufferBytes) this.write();
    const segment = this.#segmentFor(sequence, bytes);
    if (!segment) return undefined;
    const ticket = new Ticket(this, sequence, segment);
    const record = { sequence, timeMs: Date.now(), payload };
    this.#buffered.push({ ticket, payload, held });
    if (!held) {
      if (segment.unread === 0) segment.readOffset = segment.size + this.#used;
      segment.unread++;
      this.#unread++;
    }
    if (bytes > bufferBytes) {
      const buffer = Buffer.allocUnsafe(bytes);
      writeRecord(buffer, 0, segment.salt, record);
      this.#write(buffer);
    } else {
      this.#used = writeRecord(this.#buffer, this.#used, segment.salt, record);
      if (this.#buffered.length >= maxBuffered) this.write();
      else this.#schedule();
    }
    return ticket;
  }

  /** Writes what is buffered, and who is settled. */
  write(): void {
    if (this.#buffered.length > 0) this.#write(this.#buffer.subarray(0, this.#used));
    for (const segment of this.#withAcks) this.#writeAcks(segment);
    this.#withAcks.clear();
  }

  /** The oldest unread records, some hundred kilobytes of them; empty where none is left. */
  read(): LaneRecord[] {
    this.write();
    for (let segment = this.#nextUnread(); segment; segment = this.#nextUnread()) {
      const records = this.#readFrom(segment);
      if (records.length > 0) return records;
    }
    return [];
  }

  /** The record is done with, and never read again. */
  settle(ticket: Ticket): void {
    if (this.#buffered.length > 0) this.write();
    const { sequence, segment } = ticket;
    if (!segment || segment.gone) return;
    segment.remaining--;
    this.#persisted--;
    segment.newAcks.push(sequence - segment.first);
    this.#withAcks.add(segment);
    if (segment.sealed && segment.remaining === 0) this.#removeIfDone(segment);
    else this.#schedule();
  }

  /** Removes the oldest segment, whatever is in it. */
  dropOldest(reason: LossReason): void {
    this.write();
    const [segment] = this.#segments;
    if (!segment) return;
    if (segment === this.#active?.segment) this.#endSegment();
    this.#lose(segment, segment.unread, reason);
    this.#persisted -= segment.remaining;
    segment.remaining = 0;
    this.#removeIfDone(segment);
  }

  /** Removes segments that hold nothing younger than the age limit. */
  dropExpired(): void {
    for (const segment of this.#segments.slice()) {
      if (segment !== this.#segments[0] || segment === this.#active?.segment) return;
      const written = statSync(segment.path, { throwIfNoEntry: false })?.mtimeMs;
      if (written === undefined || Date.now() - written <= this.#options.maxAgeMs) return;
      this.dropOldest("spool_expired");
    }
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
    clearImmediate(this.#scheduled);
    this.write();
    const { sync, directory, onError } = this.#options;
    try {
      if (this.#active && sync !== "none") fdatasyncSync(this.#active.fd);
      this.#endSegment();
      // For the new name of the segment.
      if (sync !== "none") syncDirectory(directory);
    } catch (error) {
      this.#endSegment();
      onError(error as Error);
    }
  }

  #schedule(): void {
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.write();
    });
  }

  #segmentFor(sequence: number, bytes: number): Segment | undefined {
    const { segmentBytes, directory, name, sync } = this.#options;
    const active = this.#active?.segment;
    const used = (active?.size ?? 0) + this.#used;
    if (active && (used === 0 || used + bytes <= segmentBytes)) return active;
    this.write();
    this.#endSegment();
    this.#options.beforeSegment();
    try {
      const segment = newSegment(directory, name, sequence);
      this.#active = { segment, fd: openSync(segment.path, "ax") };
      this.#segments.push(segment);
      if (sync === "always") syncDirectory(directory);
      this.#directoryDirty = true;
      return segment;
    } catch (error) {
      this.#fail(error);
      return undefined;
    }
  }

  #write(bytes: Buffer): void {
    const records = this.#buffered;
    this.#buffered = [];
    this.#used = 0;
    if (!this.#active) return;
    const { segment, fd } = this.#active;
    try {
      writeAll(fd, bytes, segment.size);
      if (this.#options.sync === "always") fdatasyncSync(fd);
    } catch (error) {
      this.#undo(records, segment, fd, error);
      return;
    }
    this.#dirty = true;
    segment.size += bytes.length;
    segment.records += records.length;
    segment.remaining += records.length;
    segment.last = records.at(-1)?.ticket.sequence ?? segment.last;
    this.#persisted += records.length;
  }

  /** A write failed: what it left is cut off, and the records are handed back. */
  #undo(records: Buffered[], segment: Segment, fd: number, error: unknown): void {
    this.#fail(error);
    try {
      ftruncateSync(fd, segment.size);
    } catch (truncating) {
      // What is left of the write is skipped when the segment is read.
      this.#options.onError(truncating as Error);
    }
    this.#endSegment();
    for (const { ticket, payload, held } of records) {
      ticket.segment = undefined;
      if (held) continue;
      segment.unread--;
      this.#unread--;
      this.#options.onUnwritten(ticket.sequence, payload);
    }
  }

  #fail(error: unknown): void {
    this.#failingUntil = performance.now() + failurePauseMs;
    this.#options.onError(error as Error);
  }

  #endSegment(): void {
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
    this.#removeIfDone(segment);
  }

  #nextUnread(): Segment | undefined {
    return this.#unread > 0 ? this.#segments.find(({ unread }) => unread > 0) : undefined;
  }

  #readFrom(segment: Segment): LaneRecord[] {
    const chunk = this.#readChunk(segment);
    if (!chunk) {
      this.#lose(segment, segment.unread, "spool_missing");
      this.#removeIfDone(segment);
      return [];
    }
    const end = chunk.length < this.#readBytes || segment.readOffset + chunk.length >= segment.size;
    const { records, broken, consumed } = scan(chunk, segment.salt, end);
    for (const [from, to] of broken) {
      this.#options.onBroken(segment, segment.readOffset + from, chunk.subarray(from, to));
    }
    segment.readOffset += consumed;
    this.#readBytes = consumed === 0 ? this.#readBytes * 2 : readBytes;
    const oldest = Date.now() - this.#options.maxAgeMs;
    const found: LaneRecord[] = [];
    for (const { sequence, timeMs, payload } of records) {
      if (segment.unread === 0 || segment.acked.has(sequence - segment.first)) continue;
      if (timeMs < oldest) {
        this.#lose(segment, 1, "spool_expired", sequence);
        continue;
      }
      segment.unread--;
      this.#unread--;
      found.push({ ticket: new Ticket(this, sequence, segment), payload });
    }
    if (end) this.#lose(segment, segment.unread, "spool_damaged");
    if (segment.unread === 0) segment.acked.clear();
    this.#removeIfDone(segment);
    return found;
  }

  #readChunk(segment: Segment): Buffer | undefined {
    try {
      const length = Math.max(0, Math.min(this.#readBytes, segment.size - segment.readOffset));
      this.#readBuffer ??= Buffer.allocUnsafeSlow(readBytes);
      return readRange(segment.path, segment.readOffset, length, this.#readBuffer);
    } catch (error) {
      this.#options.onError(error as Error);
      return undefined;
    }
  }

  #lose(segment: Segment, count: number, reason: LossReason, sequence = segment.first): void {
    if (count === 0) return;
    segment.unread -= count;
    this.#unread -= count;
    segment.remaining -= count;
    this.#persisted -= count;
    this.#options.onLost(count, reason, sequence);
  }

  #writeAcks(segment: Segment): void {
    if (segment.gone || segment.newAcks.length === 0) return;
    try {
      appendAcks(segment.ackPath, segment.newAcks);
    } catch (error) {
      // These are sent once more after a restart.
      this.#options.onError(error as Error);
    }
    segment.newAcks = [];
  }

  #removeIfDone(segment: Segment): void {
    if (!segment.sealed || segment.remaining > 0 || segment.unread > 0 || segment.gone) return;
    segment.gone = true;
    this.#segments.splice(this.#segments.indexOf(segment), 1);
    try {
      rmSync(segment.path, { force: true });
      rmSync(segment.ackPath, { force: true });
    } catch (error) {
      this.#options.onError(error as Error);
    }
  }
}
