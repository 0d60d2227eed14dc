/** Reads header blocks: HPACK (RFC 7541), the part of the decoder. */
import { ConnectionFault, errorCode } from "./frames.ts";
import { type Field, staticTable } from "./hpack-table.ts";
import { readHuffman } from "./huffman.ts";

/** Bytes of the table that a client may fill: the protocol's default, which we do not change. */
const tableBytes = 4_096;
/** What a field counts beside its texts. */
const fieldOverhead = 32;

export interface HeaderLimits {
  /** Bytes of all fields, each with 32 more. */
  readonly maxBytes: number;
  readonly maxFields: number;
}

/** The fields of a block. */
export interface HeaderFields {
  /** Names and values in turn; not complete where there are too many. */
  readonly list: readonly string[];
  readonly tooLarge: boolean;
}

/** The state of a connection's headers, which every block depends on. Throws a fault where a block cannot be read. */
export class HeaderReader {
  readonly #limits: HeaderLimits;
  /** The newest last. */
  readonly #table: Field[] = [];
  #size = 0;
  #maxSize = tableBytes;
  /** Counts the changes of the table: as long as it is the same, equal blocks have equal fields. */
  #version = 0;
  #bytes: Uint8Array = none;
  #at = 0;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  get version(): number {
    return this.#version;
  }

  read(block: Uint8Array): HeaderFields {
    const { maxBytes, maxFields } = this.#limits;
    this.#bytes = block;
    this.#at = 0;
    const list: string[] = [];
    let size = 0;
    let mayResize = true;
    while (this.#at < block.length) {
      const byte = block[this.#at] as number;
      if (byte >= 0x20 && byte < 0x40) {
        if (!mayResize) throw unreadable();
        this.#resize(this.#integer(0x1f));
        continue;
      }
      mayResize = false;
      const field = this.#field(byte);
      size += sizeOf(field);
      // The rest is read for the sake of the table.
      if (size <= maxBytes && list.length < 2 * maxFields) list.push(field.name, field.value);
      else size = Number.POSITIVE_INFINITY;
    }
    this.#bytes = none;
    return { list, tooLarge: size > maxBytes };
  }

  #field(byte: number): Field {
    if (byte >= 0x80) return this.#entry(this.#integer(0x7f));
    const indexed = byte >= 0x40;
    const index = this.#integer(indexed ? 0x3f : 0x0f);
    const name = index > 0 ? this.#entry(index).name : this.#text();
    const field = { name, value: this.#text() };
    if (indexed) this.#add(field);
    return field;
  }

  #entry(index: number): Field {
    const field =
      index <= staticTable.length
        ? staticTable[index - 1]
        : this.#table[this.#table.length - (index - staticTable.length)];
    if (!field) throw unreadable();
    return field;
  }

  #add(field: Field): void {
    this.#version++;
    const size = sizeOf(field);
    this.#evict(this.#maxSize - size);
    // One that is larger than the table only empties it.
    if (size > this.#maxSize) return;
    this.#table.push(field);
    this.#size += size;
  }

  #resize(size: number): void {
    if (size > tableBytes) throw unreadable();
    if (size === this.#maxSize) return;
    this.#version++;
    this.#maxSize = size;
    this.#evict(size);
  }

  #evict(most: number): void {
    let count = 0;
    while (this.#size > most && count < this.#table.length)
      this.#size -= sizeOf(this.#table[count++] as Field);
    if (count > 0) this.#table.splice(0, count);
  }

  /** An integer whose first bits are those of `mask` in the next byte. */
  #integer(mask: number): number {
    const bytes = this.#bytes;
    let value = (bytes[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[this.#at++];
      if (byte === undefined || shift > 21) throw unreadable();
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  }

  #text(): string {
    const bytes = this.#bytes;
    const first = bytes[this.#at];
    if (first === undefined) throw unreadable();
    const length = this.#integer(0x7f);
    const start = this.#at;
    const end = start + length;
    if (end > bytes.length) throw unreadable();
    this.#at = end;
    if (first >= 0x80) {
      const text = readHuffman(bytes, start, end);
      if (text === undefined) throw unreadable();
      return text;
    }
    return Buffer.from(bytes.buffer, bytes.byteOffset + start, length).toString("latin1");
  }
}

const none = new Uint8Array(0);

const sizeOf = ({ name, value }: Field) => name.length + value.length + fieldOverhead;

const unreadable = () => new ConnectionFault(errorCode.compression, "a header block cannot be read");
