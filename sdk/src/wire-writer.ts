/**
 * Writes Protobuf into a page of memory, without an object for each message or text.
 *
 * Nothing is checked for room: what goes past the end of the page is not written, only counted, so that the writer knows
 * afterwards how large a page it takes. Lengths of messages are written after the fact; most take one byte.
 */
export class WireWriter {
  page: Uint8Array = new Uint8Array(0);
  /** Where the next byte goes; may be past the end of the page. */
  position = 0;
  #view = new DataView(this.page.buffer);

  /** Goes on in this page. */
  open(page: Uint8Array): void {
    this.page = page;
    this.position = 0;
    this.#view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  }

  byte(value: number): void {
    this.page[this.position++] = value;
  }

  /** A whole number from 0 up to 2^53. */
  varint(value: number): void {
    let rest = value;
    for (; rest > 0xffffffff; rest = Math.floor(rest / 128)) this.byte((rest % 128) | 0x80);
    for (rest >>>= 0; rest > 0x7f; rest >>>= 7) this.byte((rest & 0x7f) | 0x80);
    this.byte(rest);
  }

  /** A whole number of either sign. */
  int64(value: number): void {
    if (value >= 0) {
      this.varint(value);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 0x7fn; rest >>= 7n) this.byte(Number(rest & 0x7fn) | 0x80);
    this.byte(Number(rest));
  }

  double(value: number): void {
    if (this.position + 8 <= this.page.length) this.#view.setFloat64(this.position, value, true);
    this.position += 8;
  }

  /** A text behind its length. */
  text(value: string): void {
    const { length } = value;
    if (length <= shortText) {
      const { page } = this;
      let position = this.position + 1;
      let index = 0;
      for (; index < length; index++) {
        const code = value.charCodeAt(index);
        if (code > 0x7f) break;
        page[position++] = code;
      }
      if (index === length) {
        page[this.position] = length;
        this.position = position;
        return;
      }
    }
    this.#longText(value);
  }

  #longText(value: string): void {
    const start = this.begin();
    const room = Math.max(0, this.page.length - this.position);
    const { read, written } = encoder.encodeInto(value, this.page.subarray(this.page.length - room));
    this.position += read === value.length ? written : 3 * value.length;
    this.end(start);
  }

  /** Begins something whose length stands before it. */
  begin(): number {
    return this.position++;
  }

  /** Ends what began there: one byte was left for its length, and what is longer is moved. */
  end(start: number): void {
    const length = this.position - start - 1;
    if (length <= 0x7f) {
      this.page[start] = length;
      return;
    }
    let extra = 0;
    for (let rest = length; rest > 0x7f; rest = Math.floor(rest / 128)) extra++;
    this.page.copyWithin(start + 1 + extra, start + 1, this.position);
    this.position = start;
    this.varint(length);
    this.position += length;
  }

  /** As end(), where two bytes were left, for what is seldom short. */
  endFrame(start: number): void {
    if (this.position > this.page.length) return;
    const length = this.position - start - 2;
    if (length <= 0x7f || length > 0x3fff) {
      this.page.copyWithin(start + 1, start + 2, this.position);
      this.position--;
      this.end(start);
      return;
    }
    this.page[start] = (length & 0x7f) | 0x80;
    this.page[start + 1] = length >> 7;
  }
}

/** Longest text that is written character by character, which is then the fastest way. Its length takes one byte. */
const shortText = 100;
const encoder = /* @__PURE__ */ new TextEncoder();
