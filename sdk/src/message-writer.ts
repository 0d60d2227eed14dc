import { writeDouble, writeInt64 } from "./wire.ts";

const encoder = /* @__PURE__ */ new TextEncoder();

/**
 * Writes a small Protobuf message, field by field, without descriptors: these and what reads them are most of what a
 * gateway would weigh. Fields have numbers up to 15. What is zero or empty is left out, as Protobuf does.
 */
export class MessageWriter {
  #bytes = new Uint8Array(128);
  #length = 0;

  /** @throws TypeError where it is no text */
  text(field: number, value: string | undefined): this {
    if (value === undefined || value === "") return this;
    if (typeof value !== "string") throw new TypeError(`${String(value)} is no text.`);
    return this.message(field, encoder.encode(value));
  }

  /** @throws RangeError where it is no whole number that can be told exactly */
  integer(field: number, value: number): this {
    if (!Number.isSafeInteger(value)) throw new RangeError(`${String(value)} is no whole number.`);
    if (value === 0) return this;
    this.#varint(field << 3);
    this.#varint(value);
    return this;
  }

  flag(field: number, value: boolean): this {
    return this.integer(field, value ? 1 : 0);
  }

  /** A message that is encoded, or other bytes; also when it is empty. */
  message(field: number, bytes: Uint8Array): this {
    this.#varint((field << 3) | 2);
    this.#varint(bytes.length);
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** A `google.protobuf.Timestamp`. */
  timestamp(field: number, ms: number): this {
    const seconds = Math.floor(ms / 1000);
    const nanos = Math.round((ms - seconds * 1000) * 1e6);
    return this.message(field, new MessageWriter().integer(1, seconds).integer(2, nanos).finish());
  }

  /** Packed numbers, none of them negative. */
  integers(field: number, values: readonly number[]): this {
    const packed = new MessageWriter();
    for (const value of values) packed.#varint(value);
    return this.message(field, packed.finish());
  }

  /** Packed numbers of eight bytes. */
  doubles(field: number, values: readonly number[]): this {
    const packed = new Uint8Array(values.length * 8);
    for (const [index, value] of values.entries()) writeDouble(packed, index * 8, value);
    return this.message(field, packed);
  }

  /** What was written. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #varint(value: number): void {
    this.#room(10);
    this.#length = writeInt64(this.#bytes, this.#length, value);
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}
