/** Protobuf's wire format, as far as samples are read from it by hand. */

export const lengthDelimited = 2;
export const tagOf = (field: number, type = lengthDelimited) => (field << 3) | type;
export const varintType = 0;
export const doubleType = 1;

/** Thrown where the usual way has to read; one for all, for it carries nothing. */
export const unusual = new Error("the usual decoder has to read this");

/** Reads from position to position; throws `unusual` at the end of the bytes. */
export class WireReader {
  readonly buffer: Buffer;
  position = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** At most 2^53. */
  varint(): number {
    const { buffer } = this;
    let byte = buffer[this.position++];
    if (byte === undefined) throw unusual;
    if (byte < 128) return byte;
    let value = byte & 127;
    for (let factor = 128; factor < 2 ** 50; factor *= 128) {
      byte = buffer[this.position++];
      if (byte === undefined) throw unusual;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    throw unusual;
  }

  /** A google.protobuf.Timestamp from here to `end`, as milliseconds. */
  timestamp(end: number): number {
    let seconds = 0;
    let nanos = 0;
    if (this.position < end && this.buffer[this.position] === tagOf(1, varintType)) {
      this.position++;
      seconds = this.varint();
    }
    if (this.position < end && this.buffer[this.position] === tagOf(2, varintType)) {
      this.position++;
      nanos = this.varint();
    }
    if (this.position !== end || nanos >= 1e9) throw unusual;
    return seconds * 1_000 + Math.round(nanos / 1e6);
  }
}
