/** Numbers as few bytes: whole numbers up to 2^53 as varints, with a sign as zigzag varints. */

/** Writes into a buffer that grows. */
export class ByteWriter {
  buffer: Buffer;
  position = 0;

  constructor(bytes: number) {
    this.buffer = Buffer.allocUnsafe(bytes);
  }

  /** Makes room; to be called before so many bytes are written. */
  reserve(bytes: number): void {
    if (this.position + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(2 * this.buffer.length + bytes);
    this.buffer.copy(grown, 0, 0, this.position);
    this.buffer = grown;
  }

  byte(value: number): void {
    this.buffer[this.position++] = value;
  }

  /** At most 8 bytes. */
  varint(value: number): void {
    const { buffer } = this;
    let rest = value;
    while (rest > 0x7fffffff) {
      buffer[this.position++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      buffer[this.position++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    buffer[this.position++] = rest;
  }

  /** At most 8 bytes; within ±2^52. */
  signed(value: number): void {
    this.varint(value < 0 ? -2 * value - 1 : 2 * value);
  }

  double(value: number): void {
    this.position = this.buffer.writeDoubleLE(value, this.position);
  }

  bytes(bytes: Uint8Array): void {
    this.buffer.set(bytes, this.position);
    this.position += bytes.length;
  }

  finish(): Buffer {
    return this.buffer.subarray(0, this.position);
  }
}

/** Reads what a ByteWriter wrote. */
export class ByteReader {
  readonly buffer: Buffer;
  position = 0;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  byte(): number {
    return this.buffer[this.position++] as number;
  }

  varint(): number {
    const { buffer } = this;
    let byte = buffer[this.position++] as number;
    if (byte < 128) return byte;
    let value = byte & 127;
    for (let shift = 7; shift <= 21; shift += 7) {
      byte = buffer[this.position++] as number;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    for (let factor = 2 ** 28; ; factor *= 128) {
      byte = buffer[this.position++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** As many signed numbers as the column is long, from index `from` on. The common ones, of one or two bytes, take no calls. */
  signedColumn(column: Float64Array, from: number): void {
    const { buffer } = this;
    let { position } = this;
    for (let index = from; index < column.length; index++) {
      const low = buffer[position] as number;
      const high = buffer[position + 1] as number;
      if (low < 128) {
        column[index] = (low >>> 1) ^ -(low & 1);
        position++;
      } else if (high < 128) {
        const value = (low & 127) | (high << 7);
        column[index] = (value >>> 1) ^ -(value & 1);
        position += 2;
      } else {
        this.position = position;
        column[index] = this.signed();
        position = this.position;
      }
    }
    this.position = position;
  }

  double(): number {
    const value = this.buffer.readDoubleLE(this.position);
    this.position += 8;
    return value;
  }
}
