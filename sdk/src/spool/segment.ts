import { randomBytes } from "node:crypto";
import { existsSync, renameSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { Place } from "../backlog.ts";
import { type AckFrame, readAcks } from "./acks.ts";
import type { SegmentReader } from "./reader.ts";
import { headerBytes, recordBuffer, writeRecord } from "./record.ts";

/** What a segment asks of its lane. */
export interface SegmentOwner {
  write(): void;
  settle(sequence: number, segment: Segment): void;
}

/** A file of records, and what is known of it. It is the place of its records. */
export class Segment implements Place {
  readonly #owner: SegmentOwner;
  path: string;
  /** The file that says which of its records are settled. */
  readonly ackPath: string;
  /** Start of its checksums. */
  readonly salt: number;
  /** Sequence of its first record. */
  readonly first: number;
  /** Sequence of the last record that was written to it. */
  last = 0;
  /** Records appended to it. */
  records = 0;
  /** Bytes. */
  size = 0;
  /** Records of which no copy is in memory. */
  unread = 0;
  /** Records that are not settled. */
  remaining = 0;
  /** Where the first unread record is. */
  readOffset = 0;
  /** Nothing is appended any more. */
  sealed = false;
  /** Its file was removed: nothing of it is kept. */
  gone = false;
  /** There is a file of acks. */
  hasAcks = false;
  /** Sequences less `first` that were settled before it was opened. */
  acked: Set<number> = new Set();
  /** Sequences less `first` that are settled and not yet in the file of acks. */
  newAcks: AckFrame | undefined = undefined;

  constructor(owner: SegmentOwner, path: string, ackPath: string, salt: number, first: number) {
    this.#owner = owner;
    this.path = path;
    this.ackPath = ackPath;
    this.salt = salt;
    this.first = first;
  }

  keeps(sequence: number): boolean {
    this.#owner.write();
    return sequence <= this.last && !this.gone;
  }

  settle(sequence: number): void {
    this.#owner.settle(sequence, this);
  }
}

/** Where its name ends once nothing more is appended. */
const sealedName = (path: string, records: number, last: number) =>
  path.replace(/\.log$/, `.${records}.${last}.log`);

const namePattern = /^([a-z-]+)\.(\d{15})\.([0-9a-f]{8})(?:\.(\d+)\.(\d+))?\.log$/;

/** A new, empty segment; its file is not made here. */
export function newSegment(owner: SegmentOwner, directory: string, lane: string, first: number): Segment {
  const { stem, salt } = newStem(directory, lane, first);
  return new Segment(owner, `${stem}.log`, `${stem}.ack`, salt, first);
}

/** Writes a segment of one record. Returns its path. */
export function writeSegment(
  directory: string,
  lane: string,
  sequence: number,
  payload: Uint8Array,
  sync: boolean,
): string {
  const { stem, salt } = newStem(directory, lane, sequence);
  const buffer = recordBuffer(Buffer.allocUnsafe(headerBytes + payload.length));
  writeRecord(buffer, 0, salt, sequence, Date.now(), payload);
  const path = sealedName(`${stem}.log`, 1, sequence);
  writeFileSync(path, buffer.bytes, { flag: "wx", flush: sync });
  return path;
}

function newStem(directory: string, lane: string, first: number): { stem: string; salt: number } {
  const salt = randomBytes(4);
  const stem = join(directory, `${lane}.${String(first).padStart(15, "0")}.${salt.toString("hex")}`);
  return { stem, salt: salt.readUInt32BE() };
}

/** Fixed in its name once it is complete: what a segment held is known without reading it. */
export function seal(segment: Segment): void {
  segment.sealed = true;
  const path = sealedName(segment.path, segment.records, segment.last);
  renameSync(segment.path, path);
  segment.path = path;
}

/**
 * The segment behind a file name, or `undefined` for a file that is none of this lane. One that was not sealed, for
 * its process was killed, is read through and sealed.
 */
export function openSegment(
  owner: SegmentOwner,
  directory: string,
  lane: string,
  name: string,
  reader: SegmentReader,
): Segment | undefined {
  const match = namePattern.exec(name);
  if (!match || match[1] !== lane) return undefined;
  const [, , first = "", salt = "", records, last] = match;
  const path = join(directory, name);
  const ackPath = join(directory, `${lane}.${first}.${salt}.ack`);
  const segment = new Segment(owner, path, ackPath, Number.parseInt(salt, 16), Number(first));
  segment.size = statSync(path).size;
  segment.acked = readAcks(ackPath);
  segment.hasAcks = existsSync(ackPath);
  if (records !== undefined) {
    segment.records = Number(records);
    segment.last = Number(last);
    segment.sealed = true;
    segment.unread = Math.max(0, segment.records - segment.acked.size);
  } else {
    segment.last = segment.first;
    const count = (_bytes: Buffer, sequence: number) => {
      segment.last = Math.max(segment.last, sequence);
      if (!segment.acked.has(sequence - segment.first)) segment.unread++;
    };
    while (reader.read(segment, count) === false);
    segment.readOffset = 0;
    // Acks of records that are broken by now count as records: they are taken off again when it is next opened.
    segment.records = segment.unread + segment.acked.size;
    seal(segment);
  }
  segment.remaining = segment.unread;
  return segment;
}

/** The stem that a segment and its acks share. */
export function stemOf(name: string): string {
  return basename(name).split(".").slice(0, 3).join(".");
}
