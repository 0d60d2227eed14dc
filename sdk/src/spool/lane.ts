import { readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { appendAcks } from "./acks.ts";
import { Appender } from "./appender.ts";
import type { LaneOptions, LossReason } from "./lane-options.ts";
import { SegmentReader } from "./reader.ts";
import { openSegment, type Segment } from "./segment.ts";
import { Ticket } from "./ticket.ts";

/** A record read back. */
export interface LaneRecord {
  ticket: Ticket;
  /** Good until the next read. */
  payload: Uint8Array;
}

/** A log of records in order: appended at one end, read at the other, settled in any order. */
export class Lane {
  readonly #options: LaneOptions;
  readonly #appender: Appender;
  readonly #reader: SegmentReader;
  readonly #segments: Segment[] = [];
  readonly #withAcks = new Set<Segment>();
  #scheduled: NodeJS.Immediate | undefined;
  #unread = 0;
  #persisted = 0;

  /** Opens what is there. */
  constructor(options: LaneOptions) {
    this.#options = options;
    this.#reader = new SegmentReader(options);
    this.#appender = new Appender(options, {
      onBegun: (segment) => this.#segments.push(segment),
      onWritten: (records) => {
        this.#persisted += records;
      },
      onEnded: (segment) => this.#removeIfDone(segment),
      onUnwritten: (ticket, segment, payload) => this.#onUnwritten(ticket, segment, payload),
    });
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
    const segment = this.#appender.segmentFor(sequence, payload.length);
    if (!segment) return undefined;
    const ticket = new Ticket(this, sequence, segment, held);
    if (!held) {
      if (segment.unread === 0) segment.readOffset = this.#appender.offset;
      segment.unread++;
      this.#unread++;
    }
    this.#appender.append(ticket, segment, Date.now(), payload);
    if (this.#scheduled === undefined) this.#schedule();
    return ticket;
  }

  /** Writes what is buffered, and who is settled. */
  write(): void {
    this.#appender.write();
    if (this.#withAcks.size === 0) return;
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
  settle({ sequence, segment }: Ticket): void {
    if (this.#appender.buffered > 0) this.#appender.write();
    if (!segment || segment.gone) return;
    segment.remaining--;
    this.#persisted--;
    if (segment.newAcks.push(sequence - segment.first) === 1) this.#withAcks.add(segment);
    if (segment.sealed && segment.remaining === 0) this.#removeIfDone(segment);
    else if (this.#scheduled === undefined) this.#schedule();
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
    this.write();
    this.#appender.close();
  }

  #schedule(): void {
    this.#scheduled = setImmediate(() => {
      this.#scheduled = undefined;
      this.write();
    });
  }

  #onUnwritten(ticket: Ticket, segment: Segment, payload: Uint8Array): void {
    if (ticket.held) return;
    segment.unread--;
    this.#unread--;
    this.#options.onUnwritten(ticket.sequence, payload);
  }

  #nextUnread(): Segment | undefined {
    return this.#unread > 0 ? this.#segments.find(({ unread }) => unread > 0) : undefined;
  }

  #readFrom(segment: Segment): LaneRecord[] {
    const read = this.#reader.read(segment);
    if (!read) {
      this.#lose(segment, segment.unread, "spool_missing");
      this.#removeIfDone(segment);
      return [];
    }
    const oldest = Date.now() - this.#options.maxAgeMs;
    const found: LaneRecord[] = [];
    for (const { sequence, timeMs, payload } of read.records) {
      if (segment.unread === 0 || segment.acked.has(sequence - segment.first)) continue;
      if (timeMs < oldest) {
        this.#lose(segment, 1, "spool_expired", sequence, sequence);
        continue;
      }
      segment.unread--;
      this.#unread--;
      found.push({ ticket: new Ticket(this, sequence, segment, true), payload });
    }
    if (read.end) this.#lose(segment, segment.unread, "spool_damaged");
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
