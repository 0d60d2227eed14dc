import { readdirSync, readFileSync, statSync, unlinkSync } from "node:fs";
import { AckFrame, maxAcks } from "./acks.ts";
import { Appender } from "./appender.ts";
import type { LaneOptions, LossReason } from "./lane-options.ts";
import { SegmentReader } from "./reader.ts";
import { isOlder } from "./record.ts";
import { openSegment, type Segment, type SegmentOwner } from "./segment.ts";

/** Told of a record that is read back: its bytes, good until the next read, and where it is to be settled. */
export type OnLaneRecord = (
  bytes: Buffer,
  start: number,
  end: number,
  sequence: number,
  segment: Segment,
) => void;

/** What is settled is written down after this time. A killed process sends it once more, which the ids make harmless. */
const ackDelayMs = 100;
/** Frames kept for later. */
const maxSpareFrames = 4;

/** A log of records in order: appended at one end, read at the other, settled in any order. */
export class Lane implements SegmentOwner {
  readonly #options: LaneOptions;
  readonly #appender: Appender;
  readonly #reader: SegmentReader;
  readonly #segments: Segment[] = [];
  readonly #withAcks = new Set<Segment>();
  readonly #spareFrames: AckFrame[] = [];
  #scheduled: NodeJS.Immediate | undefined;
  #ackTimer: NodeJS.Timeout | undefined;
  #unread = 0;
  #persisted = 0;
  // Made once: a function that makes one takes memory each time that it is called, whether it comes to that or not.
  readonly #writeScheduled = () => {
    this.#scheduled = undefined;
    this.write();
  };
  readonly #writeAcksInTime = () => this.writeAcks();

  /** Opens what is there. */
  constructor(options: LaneOptions) {
    this.#options = options;
    this.#reader = new SegmentReader(options);
    this.#appender = new Appender(options, this, {
      onBegun: (segment) => this.#segments.push(segment),
      onWritten: (records) => {
        this.#persisted += records;
      },
      onEnded: (segment) => this.#removeIfDone(segment),
      onUnwritten: (sequence, segment, payload) => {
        segment.unread--;
        this.#unread--;
        options.onUnwritten(sequence, payload);
      },
    });
    // What is broken is set aside when it is read for good.
    const counting = new SegmentReader({ ...options, onBroken() {} });
    for (const name of readdirSync(options.directory).sort()) {
      try {
        const segment = openSegment(this, options.directory, options.name, name, counting);
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

  /** First part of the names of its files. */
  get name(): string {
    return this.#options.name;
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
   * @returns where it is; `undefined` while the disk takes nothing
   */
  append(sequence: number, payload: Uint8Array, held: boolean): Segment | undefined {
    const segment = this.#appender.segmentFor(sequence, payload.length);
    if (!segment) return undefined;
    if (!held) {
      if (segment.unread === 0) segment.readOffset = this.#appender.offset;
      segment.unread++;
      this.#unread++;
    }
    this.#appender.append(sequence, segment, Date.now(), payload, held);
    this.#scheduled ??= setImmediate(this.#writeScheduled);
    return segment;
  }

  /** Writes what is buffered. */
  write(): void {
    this.#appender.write();
  }

  /** Writes down what is settled. */
  writeAcks(): void {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = undefined;
    for (const segment of this.#withAcks) this.#writeAcks(segment);
    this.#withAcks.clear();
  }

  /**
   * Reads the oldest unread records, some hundred kilobytes of them.
   *
   * @returns how many; 0 where none is left
   */
  read(onRecord: OnLaneRecord): number {
    this.write();
    for (let segment = this.#nextUnread(); segment; segment = this.#nextUnread()) {
      const records = this.#readFrom(segment, onRecord);
      if (records > 0) return records;
    }
    return 0;
  }

  /** The record is done with, and never read again. */
  settle(sequence: number, segment: Segment): void {
    if (this.#appender.buffered > 0) this.#appender.write();
    if (segment.gone || sequence > segment.last) return;
    segment.remaining--;
    this.#persisted--;
    if (segment.sealed && segment.remaining === 0) {
      this.#removeIfDone(segment);
      return;
    }
    // One that came in between, see Appender: after a restart it is sent once more.
    if (sequence < segment.first) return;
    if (!segment.newAcks) {
      segment.newAcks = this.#spareFrames.pop() ?? new AckFrame();
      this.#withAcks.add(segment);
      this.#ackTimer ??= setTimeout(this.#writeAcksInTime, ackDelayMs).unref();
    }
    if (segment.newAcks.push(sequence - segment.first) === maxAcks) this.#writeAcks(segment);
  }

  /** Removes the oldest segment, whatever is in it. */
  dropOldest(reason: LossReason): void {
    this.write();
    const [segment] = this.#segments;
    if (!segment) return;
    if (segment === this.#appender.segment) this.#appender.endSegment();
    this.#lose(segment, segment.unread, reason);
    this.#persisted -= segment.remaining;
    segment.remaining = 0;
    this.#removeIfDone(segment);
  }

  /** Removes segments that hold nothing younger than the age limit. */
  dropExpired(): void {
    for (const segment of this.#segments.slice()) {
      if (segment !== this.#segments[0] || segment === this.#appender.segment) return;
      const written = statSync(segment.path, { throwIfNoEntry: false })?.mtimeMs;
      if (written === undefined || Date.now() - written <= this.#options.maxAgeMs) return;
      this.dropOldest("spool_expired");
    }
  }

  /** Forces onto the disk what is written, without waiting for it. */
  sync(): void {
    this.#appender.sync();
  }

  /** Writes and syncs everything. */
  close(): void {
    clearImmediate(this.#scheduled);
    this.#appender.close();
    this.writeAcks();
  }

  #nextUnread(): Segment | undefined {
    return this.#unread > 0 ? this.#segments.find(({ unread }) => unread > 0) : undefined;
  }

  #readFrom(segment: Segment, onRecord: OnLaneRecord): number {
    const oldest = Date.now() - this.#options.maxAgeMs;
    let found = 0;
    const end = this.#reader.read(segment, (bytes, sequence, start, end) => {
      if (segment.unread === 0 || segment.acked.has(sequence - segment.first)) return;
      if (isOlder(bytes, start, oldest)) {
        this.#lose(segment, 1, "spool_expired", sequence, sequence);
        return;
      }
      segment.unread--;
      this.#unread--;
      found++;
      onRecord(bytes, start, end, sequence, segment);
    });
    if (end === undefined) this.#lose(segment, segment.unread, "spool_missing");
    else if (end) this.#lose(segment, segment.unread, "spool_damaged");
    if (segment.unread === 0) segment.acked.clear();
    this.#removeIfDone(segment);
    return found;
  }

  #lose(segment: Segment, count: number, reason: LossReason, first?: number, last?: number): void {
    if (count === 0) return;
    segment.unread -= count;
    this.#unread -= count;
    segment.remaining -= count;
    this.#persisted -= count;
    this.#options.onLost(count, reason, first ?? segment.first, last ?? segment.last);
  }

  #writeAcks(segment: Segment): void {
    const frame = segment.newAcks;
    if (!frame) return;
    try {
      segment.hasAcks = true;
      frame.appendTo(segment.ackPath);
    } catch (error) {
      // These are sent once more after a restart.
      this.#options.onError(error as Error);
    }
    this.#dropAcks(segment);
  }

  #dropAcks(segment: Segment): void {
    const frame = segment.newAcks;
    segment.newAcks = undefined;
    frame?.clear();
    if (frame && this.#spareFrames.length < maxSpareFrames) this.#spareFrames.push(frame);
  }

  #removeIfDone(segment: Segment): void {
    if (!segment.sealed || segment.remaining > 0 || segment.unread > 0 || segment.gone) return;
    segment.gone = true;
    this.#dropAcks(segment);
    this.#segments.splice(this.#segments.indexOf(segment), 1);
    try {
      unlinkSync(segment.path);
      if (segment.hasAcks) unlinkSync(segment.ackPath);
    } catch (error) {
      // Somebody else removed it.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") this.#options.onError(error as Error);
    }
  }
}
