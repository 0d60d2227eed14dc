/** Reads parts of messages where they lie, as far as they are canonical; see event-scan.ts for what that means. */
import { isUtf8 } from "node:buffer";
import { MapEntries } from "./map-entries.ts";
import { byteClass, plainText, type TextRule } from "./scan-rules.ts";

/** Deeper JSON is left to the full check. */
const maxDepth = 32;

/** What scans have in common: where they are, and lengths, numbers, texts and JSON. */
export class WireScanner {
  protected bytes: Uint8Array = plainText.classes;
  protected at = 0;
  /** Whether the rules have been checked before, so that only the form matters. */
  protected checked = false;
  protected readonly entries = new MapEntries();

  /** Reads a length; -1: not certain, or past the end. */
  protected length(end: number): number {
    const bytes = this.bytes;
    let at = this.at;
    if (at >= end) return -1;
    let byte = bytes[at++] as number;
    let length = byte & 0x7f;
    for (let shift = 7; byte >= 0x80; shift += 7) {
      if (at >= end || shift > 21) return -1;
      byte = bytes[at++] as number;
      if (byte === 0) return -1;
      length |= (byte & 0x7f) << shift;
    }
    this.at = at;
    return at + length <= end ? length : -1;
  }

  protected textOf(rule: TextRule, length: number): boolean {
    const start = this.at;
    const stop = start + length;
    this.at = stop;
    if (this.checked) return true;
    if (length > rule.maxBytes) return false;
    const bytes = this.bytes;
    const { classes } = rule;
    let beyondAscii = false;
    for (let at = start; at < stop; at++) {
      const found = classes[bytes[at] as number];
      if (found === byteClass.plain) continue;
      if (found === byteClass.undecided) return false;
      beyondAscii = true;
    }
    return !beyondAscii || isUtf8(bytes.subarray(start, stop));
  }

  /** Reads a positive number of up to 42 bits; -1: not certain. */
  protected positive(end: number): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < 6 && this.at < end; count++) {
      const byte = this.bytes[this.at++] as number;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return byte === 0 ? -1 : value;
      factor *= 128;
    }
    return -1;
  }

  /** Reads the key of a map entry, which is its first field, and notes the entry; its end is its message's. */
  protected key(rule: TextRule, stop: number, entry: number): boolean {
    const bytes = this.bytes;
    if (this.at >= stop || bytes[this.at++] !== 0x0a) return false;
    const length = this.length(stop);
    // Only a Struct may have an empty key.
    if (length < (rule === plainText ? 0 : 1) || !this.textOf(rule, length)) return false;
    const end = this.at;
    this.entries.push(entry, stop, end - length, end);
    return true;
  }

  protected finite(): boolean {
    return (
      ((this.bytes[this.at + 7] as number) & 0x7f) !== 0x7f || (this.bytes[this.at + 6] as number) < 0xf0
    );
  }

  /** Reads a google.protobuf.Struct up to `end`. */
  protected struct(end: number, depth: number): boolean {
    const bytes = this.bytes;
    const base = this.entries.top;
    while (this.at < end) {
      const entry = this.at;
      if (bytes[this.at++] !== 0x0a) return false;
      const length = this.length(end);
      if (length < 0) return false;
      const stop = this.at + length;
      if (!this.key(plainText, stop, entry)) return false;
      if (this.at >= stop || bytes[this.at++] !== 0x12) return false;
      const valueLength = this.length(stop);
      if (valueLength < 0 || this.at + valueLength !== stop || !this.value(stop, depth)) return false;
    }
    return this.entries.sort(bytes, base);
  }

  /** Reads a google.protobuf.Value that ends at `end`. */
  private value(end: number, depth: number): boolean {
    const bytes = this.bytes;
    const kind = this.at < end ? bytes[this.at++] : -1;
    switch (kind) {
      case 0x08: // null
        return this.at < end && bytes[this.at++] === 0 && this.at === end;
      case 0x11: // number
        if (this.at + 8 !== end || !this.finite()) return false;
        this.at = end;
        return true;
      case 0x1a: {
        const length = this.length(end);
        return length >= 0 && this.at + length === end && this.textOf(plainText, length);
      }
      case 0x20: // bool
        return this.at < end && (bytes[this.at++] as number) <= 1 && this.at === end;
      case 0x2a: {
        const length = this.length(end);
        return (
          length >= 0 && this.at + length === end && this.mayDescend(depth) && this.struct(end, depth + 1)
        );
      }
      case 0x32: {
        const length = this.length(end);
        return length >= 0 && this.at + length === end && this.mayDescend(depth) && this.list(end, depth + 1);
      }
      default:
        return false;
    }
  }

  private mayDescend(depth: number): boolean {
    return depth < maxDepth || this.checked;
  }

  private list(end: number, depth: number): boolean {
    while (this.at < end) {
      if (this.bytes[this.at++] !== 0x0a) return false;
      const length = this.length(end);
      if (length < 0 || !this.value(this.at + length, depth)) return false;
    }
    return true;
  }
}
