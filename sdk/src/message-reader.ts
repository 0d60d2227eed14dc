const decoder = /* @__PURE__ */ new TextDecoder();

/** What a field holds: a number, or the bytes of a text or a message. */
export class FieldValue {
  readonly #value: number | Uint8Array;

  constructor(value: number | Uint8Array) {
    this.#value = value;
  }

  /** 0 where it holds bytes. */
  get number(): number {
    return typeof this.#value === "number" ? this.#value : 0;
  }

  /** Empty where it holds a number. */
  get bytes(): Uint8Array {
    return typeof this.#value === "number" ? new Uint8Array(0) : this.#value;
  }

  get text(): string {
    return decoder.decode(this.bytes);
  }

  /** Of a `google.protobuf.Duration` in milliseconds. */
  get durationMs(): number {
    let ms = 0;
    readFields(this.bytes, (field, value) => {
      if (field === 1) ms += value.number * 1000;
      else if (field === 2) ms += value.number / 1e6;
    });
    return ms;
  }
}

/**
 * Reads a Protobuf message, field by field, without descriptors. Fields that are told by their number may be of a later
 * version: who reads leaves out those he does not know. Numbers of fixed size are skipped.
 *
 * @throws RangeError where these are not the bytes of a message
 */
export function readFields(bytes: Uint8Array, onField: (field: number, value: FieldValue) => void): void {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || scale > 2 ** 63) throw new RangeError("The message is cut off.");
      value += (byte & 0x7f) * scale;
      if (byte <= 0x7f) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    switch (tag % 8) {
      case 0:
        onField(field, new FieldValue(varint()));
        break;
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        at += length;
        if (at <= bytes.length) onField(field, new FieldValue(bytes.subarray(at - length, at)));
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        throw new RangeError(`The message has a field of kind ${tag % 8}.`);
    }
  }
  if (at > bytes.length) throw new RangeError("The message is cut off.");
}
