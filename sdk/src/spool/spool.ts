import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { Lane } from "./lane.ts";
import type { LossReason, SyncPolicy } from "./lane-options.ts";
import { takeLock } from "./lock.ts";
import type { Segment } from "./segment.ts";
import { stemOf, writeSegment } from "./segment.ts";

/** How a gateway keeps on disk what is not delivered. */
export interface SpoolOptions {
  /** The spool's own directory; made where it is missing. One process at a time has it. */
  directory: string;
  /**
   * When what is written is forced onto the disk. A killed process loses at most 128 items with each of them; they
   * differ in what a power cut takes: `always` nothing that counts as persisted, but each write waits for the disk;
   * `interval` (default) the last second; `none` what the operating system had not written yet.
   */
  sync?: SyncPolicy;
  /** Milliseconds between two syncs with `interval`. Default 1,000. */
  syncIntervalMs?: number;
  /** Bytes on disk; past it the oldest segment goes, normal ones first, counted as `spool_full`. Default 1 GiB. */
  maxBytes?: number;
  /** Milliseconds; older items are dropped as `spool_expired`. Default 30 days, as long as the server knows ids. */
  maxAgeMs?: number;
  /** The file system refused something, such as a write to a full disk. It goes on in memory meanwhile. */
  onError?(error: Error): void;
}

/** What becomes of the records of one lane. */
export interface LaneListener {
  onLost(count: number, reason: LossReason, first: number, last: number): void;
  onUnwritten(sequence: number, payload: Buffer): void;
}

const maxSegmentBytes = 8 * 1024 * 1024;
const minSegmentBytes = 16 * 1024;
/** Broken bytes are kept for whoever wants to look at them, up to this many files. */
const maxBroken = 100;
/** And what could not be sent. */
const maxSetAside = 1_000;

/** A directory of lanes with a lock, a bound on its size and a timer for syncs. */
export class Spool {
  readonly directory: string;
  readonly #options: SpoolOptions;
  readonly #lanes: Lane[] = [];
  readonly #release: () => void;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #maxBytes: number;
  readonly #segmentBytes: number;
  #broken = 0;
  #setAside = 0;

  /** @throws SpoolLockedError where another process has it, and whatever the file system throws */
  constructor(options: SpoolOptions) {
    this.#options = options;
    this.directory = resolve(options.directory);
    this.#maxBytes = options.maxBytes ?? 1024 ** 3;
    this.#segmentBytes = Math.max(
      minSegmentBytes,
      Math.min(maxSegmentBytes, Math.floor(this.#maxBytes / 16)),
    );
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    this.#release = takeLock(this.directory);
    this.#removeOrphans();
    if (this.#sync === "interval") {
      this.#timer = setInterval(() => {
        for (const lane of this.#lanes) lane.sync();
      }, options.syncIntervalMs ?? 1_000);
      this.#timer.unref();
    }
  }

  get #sync(): SyncPolicy {
    return this.#options.sync ?? "interval";
  }

  /** Opens a lane. Where room is needed, the lanes opened first lose their oldest first. */
  lane(name: string, listener: LaneListener): Lane {
    const lane = new Lane({
      directory: this.directory,
      name,
      segmentBytes: this.#segmentBytes,
      maxAgeMs: this.#options.maxAgeMs ?? 30 * 86_400_000,
      sync: this.#sync,
      beforeSegment: () => this.#makeRoom(),
      onError: (error) => this.#options.onError?.(error),
      onBroken: (segment, offset, bytes) => this.#keepBroken(segment, offset, bytes),
      onLost: (count, reason, first, last) => listener.onLost(count, reason, first, last),
      onUnwritten: (sequence, payload) => listener.onUnwritten(sequence, payload),
    });
    this.#lanes.push(lane);
    return lane;
  }

  /**
   * Keeps an item of this lane as a segment of its own in the directory `aside`: moved into the spool's own, it is sent again.
   *
   * @returns its path; `undefined` where the file system refuses it, or so many are there that it would never end
   */
  setAside(lane: string, sequence: number, payload: Uint8Array): string | undefined {
    if (this.#setAside >= maxSetAside) return undefined;
    const directory = join(this.directory, "aside");
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      const path = writeSegment(directory, lane, sequence, payload, this.#sync !== "none");
      this.#setAside++;
      return path;
    } catch (error) {
      this.#options.onError?.(error as Error);
      return undefined;
    }
  }

  /** Writes and syncs everything, and gives the directory back. */
  close(): void {
    clearInterval(this.#timer);
    for (const lane of this.#lanes) lane.close();
    this.#release();
  }

  #makeRoom(): void {
    for (const lane of this.#lanes) lane.dropExpired();
    const size = () => this.#lanes.reduce((sum, lane) => sum + lane.size, 0);
    while (size() + this.#segmentBytes > this.#maxBytes) {
      const lane = this.#lanes.find(({ segments }) => segments > 0);
      if (!lane) return;
      lane.dropOldest("spool_full");
    }
  }

  #keepBroken(segment: Segment, offset: number, bytes: Uint8Array): void {
    if (++this.#broken > maxBroken) return;
    const directory = join(this.directory, "broken");
    try {
      mkdirSync(directory, { recursive: true });
      writeFileSync(join(directory, `${stemOf(basename(segment.path))}.${offset}`), bytes);
    } catch (error) {
      this.#options.onError?.(error as Error);
    }
  }

  /** Acks whose segment was removed just before the process ended. */
  #removeOrphans(): void {
    const names = readdirSync(this.directory);
    const stems = new Set(names.filter((name) => name.endsWith(".log")).map(stemOf));
    for (const name of names) {
      if (name.endsWith(".ack") && !stems.has(stemOf(name)))
        rmSync(join(this.directory, name), { force: true });
    }
  }
}
