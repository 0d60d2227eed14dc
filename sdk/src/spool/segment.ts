import { randomBytes } from "node:crypto";
import { readFileSync, renameSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { readAcks } from "./acks.ts";
import { scan } from "./record.ts";

/** A file of records, and what is known of it. */
export interface Segment {
  path: string;
  /** The file that says which of its records are settled. */
  ackPath: string;
  /** Start of its checksums. */
  salt: number;
  /** Sequence of its first record. */
  first: number;
  /** Sequence of its last record. */
  last: number;
  /** Records appended to it. */
  records: number;
  /** Bytes. */
  size: number;
  /** Records of which no copy is in memory. */
  unread: number;
  /** Records that are not settled. */
  remaining: number;
  /** Where the first unread record is. */
  readOffset: number;
  /** Nothing is appended any more. */
  sealed: boolean;
  /** Its file was removed: nothing of it is kept. */
  gone: boolean;
  /** Sequences less `first` that were settled before it was opened. */
  acked: Set<number>;
  /** Sequences less `first` that are settled and not yet in the file of acks. */
  newAcks: number[];
}

const namePattern = /^([a-z-]+)\.(\d{15})\.([0-9a-f]{8})(?:\.(\d+)\.(\d+))?\.log$/;

/** A new, empty segment; its file is not made here. */
export function newSegment(directory: string, lane: string, first: number): Segment {
  const salt = randomBytes(4);
  const stem = join(directory, `${lane}.${String(first).padStart(15, "0")}.${salt.toString("hex")}`);
  return { ...emptySegment(`${stem}.log`, `${stem}.ack`), salt: salt.readUInt32BE(), first };
}

/** Fixed in its name once it is complete: what a segment held is known without reading it. */
export function seal(segment: Segment): void {
  segment.sealed = true;
  const path = segment.path.replace(/\.log$/, `.${segment.records}.${segment.last}.log`);
  renameSync(segment.path, path);
  segment.path = path;
}

/**
 * The segment behind a file name, or `undefined` for a file that is none of this lane. One that was not sealed, for
 * its process was killed, is read through and sealed.
 */
export function openSegment(directory: string, lane: string, name: string): Segment | undefined {
  const match = namePattern.exec(name);
  if (!match || match[1] !== lane) return undefined;
  const [, , first = "", salt = "", records, last] = match;
  const path = join(directory, name);
  const ackPath = join(directory, `${lane}.${first}.${salt}.ack`);
  const acked = readAcks(ackPath);
  const segment: Segment = {
    ...emptySegment(path, ackPath),
    salt: Number.parseInt(salt, 16),
    first: Number(first),
    size: statSync(path).size,
    acked,
  };
  if (records !== undefined) {
    segment.records = Number(records);
    segment.last = Number(last);
    segment.sealed = true;
    segment.unread = Math.max(0, segment.records - acked.size);
  } else {
    const found = scan(readFileSync(path), segment.salt, true).records;
    segment.last = found.at(-1)?.sequence ?? segment.first;
    segment.unread = found.filter(({ sequence }) => !acked.has(sequence - segment.first)).length;
    // Acks of records that are broken by now count as records: they are taken off again when it is next opened.
    segment.records = segment.unread + acked.size;
    seal(segment);
  }
  segment.remaining = segment.unread;
  return segment;
}

/** The stem that a segment and its acks share. */
export function stemOf(name: string): string {
  return basename(name).split(".").slice(0, 3).join(".");
}

function emptySegment(path: string, ackPath: string): Segment {
  return {
    path,
    ackPath,
    salt: 0,
    first: 0,
    last: 0,
    records: 0,
    size: 0,
    unread: 0,
    remaining: 0,
    readOffset: 0,
    sealed: false,
    gone: false,
    acked: new Set(),
    newAcks: [],
  };
}
