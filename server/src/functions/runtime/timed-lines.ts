/**
 * Lines with a time in RFC 3339 before them, as Docker and Kubernetes keep them: joined where a line was cut into parts,
 * and skipped up to a position. A position is, for each stream, the time of the last part that was handed on and how many
 * parts had that time: times are those of the runtime's clock and need not differ.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import { type LogBatch, maxLineBytes, type RawLine } from "./runtime.ts";

type StreamNumber = RawLine["stream"];
/** Time in nanoseconds, and parts with this time. */
type Mark = [time: string, parts: number];
export type TimedPosition = Partial<Record<StreamNumber, Mark>>;

interface Pending {
  readonly time: string;
  readonly parts: Buffer[];
  bytes: number;
  mark: Mark;
}

export const lostLine =
  "pulsewire: lines before this one are missing: the runtime had removed them before they were read";

let lastSecond = "";
let lastSecondNumber = 0;

/** Nanoseconds since 1970, in decimal, from RFC 3339; undefined for anything else. */
export function nanosOf(text: string): string | undefined {
  if (text.length < 20 || text.charCodeAt(10) !== 84) return undefined;
  const second = text.slice(0, 19);
  if (second !== lastSecond) {
    const parsed = Date.parse(`${second}Z`);
    if (Number.isNaN(parsed)) return undefined;
    lastSecond = second;
    lastSecondNumber = parsed / 1000;
  }
  // What Docker writes.
  if (text.length === 30 && text.charCodeAt(19) === 46 && text.charCodeAt(29) === 90) {
    return `${lastSecondNumber}${text.slice(20, 29)}`;
  }
  const zoneAt = text.search(/[Z+-]/.test(text[19] ?? "") ? /[Z+-]/ : /Z|[+-]\d\d:\d\d$/);
  if (text.charCodeAt(19) === 46) {
    const end = text.endsWith("Z") ? text.length - 1 : zoneAt;
    const zone = text.endsWith("Z") ? 0 : offsetSeconds(text.slice(zoneAt));
    return `${lastSecondNumber - zone}${text.slice(20, end).padEnd(9, "0").slice(0, 9)}`;
  }
  const zone = text.endsWith("Z") ? 0 : offsetSeconds(text.slice(19));
  return `${lastSecondNumber - zone}000000000`;
}

function offsetSeconds(zone: string): number {
  const [, sign, hours = "0", minutes = "0"] = /^([+-])(\d\d):(\d\d)$/.exec(zone) ?? [];
  return (sign === "-" ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60);
}

/** Where an engine is asked to begin, as `seconds.nanoseconds`: the earlier of both streams' marks. */
export function sinceOf(position: TimedPosition | undefined): string | undefined {
  const times = Object.values(position ?? {}).map(([time]) => time);
  const [first] = times.toSorted((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1));
  return first && `${first.slice(0, -9)}.${first.slice(-9)}`;
}

/** Joins the parts of lines and counts them; one for each reading from a position. */
export class TimedLines {
  readonly #from: TimedPosition;
  readonly #position: TimedPosition;
  /** Parts with the time of the mark that were skipped, and whether the mark has been passed. */
  readonly #skipped: Record<StreamNumber, number> = { 1: 0, 2: 0 };
  readonly #passed: Record<StreamNumber, boolean> = { 1: false, 2: false };
  readonly #pending: Partial<Record<StreamNumber, Pending>> = {};
  readonly #counts: TimedPosition;
  #lines: RawLine[] = [];

  constructor(from: JsonValue | undefined) {
    this.#from = (from ?? {}) as TimedPosition;
    this.#position = structuredClone(this.#from);
    this.#counts = structuredClone(this.#from);
    this.#passed = { 1: !this.#from[1], 2: !this.#from[2] };
  }

  /** Takes one part; `ends` where a line end stood behind it. */
  take(stream: StreamNumber, time: string, part: Buffer, ends: boolean): void {
    if (!this.#passed[stream] && this.#isKnown(stream, time)) return;
    const before = this.#pending[stream];
    if (before && before.bytes + part.length > maxLineBytes) this.#emit(stream, before, true);
    const count = this.#counts[stream];
    const mark: Mark = count && count[0] === time ? [time, count[1] + 1] : [time, 1];
    this.#counts[stream] = mark;
    if (ends && part.length <= maxLineBytes && !this.#pending[stream]) {
      this.#lines.push({ time, stream, text: part.toString(), continues: false });
      this.#position[stream] = mark;
      return;
    }
    const pending = this.#pending[stream] ?? { time, parts: [], bytes: 0, mark };
    this.#pending[stream] = pending;
    // A part is handed on as a whole, so that a position never lies within one.
    const isLong = part.length > maxLineBytes;
    let rest = part;
    while (rest.length > maxLineBytes) {
      const cut = cutBefore(rest, maxLineBytes);
      this.#lines.push({ time, stream, text: rest.toString("utf8", 0, cut), continues: true });
      rest = rest.subarray(cut);
    }
    pending.parts.push(rest);
    pending.bytes += rest.length;
    pending.mark = mark;
    if (ends || isLong) this.#emit(stream, pending, !ends);
  }

  /** The log is over: what has no line end is a line, too. */
  finish(): void {
    for (const stream of [1, 2] as const) {
      const pending = this.#pending[stream];
      if (pending) this.#emit(stream, pending, false);
    }
  }

  get size(): number {
    return this.#lines.length;
  }

  /** What has come since the last call; undefined: nothing. */
  flush(): LogBatch | undefined {
    if (this.#lines.length === 0) return undefined;
    const lines = this.#lines;
    this.#lines = [];
    return { lines, position: structuredClone(this.#position) as JsonValue };
  }

  #emit(stream: StreamNumber, { time, parts, mark }: Pending, continues: boolean): void {
    delete this.#pending[stream];
    const [only] = parts;
    const bytes = parts.length === 1 && only ? only : Buffer.concat(parts);
    this.#lines.push({ time, stream, text: bytes.toString(), continues });
    this.#position[stream] = mark;
  }

  /** Whether a part lies before or at the mark where reading began. */
  #isKnown(stream: StreamNumber, time: string): boolean {
    const [markTime, markParts] = this.#from[stream] as Mark;
    const order = compare(time, markTime);
    if (order < 0) return true;
    if (order === 0 && this.#skipped[stream] < markParts) {
      this.#skipped[stream]++;
      return true;
    }
    this.#passed[stream] = true;
    // The runtime begins with what was read last; where it does not, it has thrown that away, and perhaps more.
    if (this.#skipped[stream] === 0) {
      this.#lines.push({ time, stream, text: lostLine, continues: false });
    }
    return false;
  }
}

function compare(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Where bytes can be cut so that no character of UTF-8 is torn. */
function cutBefore(bytes: Buffer, at: number): number {
  let cut = at;
  while (cut > 0 && cut > at - 4 && ((bytes[cut] ?? 0) & 0xc0) === 0x80) cut--;
  return cut > 0 ? cut : at;
}
