import type { Segment } from "./segment.ts";

/** When what is written is forced onto the disk; see SpoolOptions. */
export type SyncPolicy = "always" | "interval" | "none";

/** What a lane needs to know, and whom it tells. */
export interface LaneOptions {
  directory: string;
  /** First part of the names of its files. */
  name: string;
  segmentBytes: number;
  maxAgeMs: number;
  sync: SyncPolicy;
  /** Called before a segment is begun, to make room. */
  beforeSegment(): void;
  /** Records that were never read are lost, whose sequences are in this range. */
  onLost(count: number, reason: LossReason, first: number, last: number): void;
  /** A record could not be written, and no copy of it is held. */
  onUnwritten(sequence: number, payload: Buffer): void;
  /** The file system refused something. */
  onError(error: Error): void;
  /** Bytes of a segment that hold no whole record. */
  onBroken(segment: Segment, offset: number, bytes: Uint8Array): void;
}

/** Why records were lost: too many, too old, broken on the disk, or their file is missing. */
export type LossReason = "spool_full" | "spool_expired" | "spool_damaged" | "spool_missing";
