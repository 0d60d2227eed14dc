/**
 * Arrays as PostgreSQL's binary format has them, for parameters of many rows: nothing to quote here, nothing to unquote
 * there. node-postgres sends a Buffer as a binary parameter; the statement must cast it to the array's type.
 */

/** Writes the elements of one array; grows as needed. */
class ArrayWriter {
  buffer: Buffer;
  position = arrayHeaderBytes;

  constructor(bytes: number) {
    this.buffer = Buffer.allocUnsafe(arrayHeaderBytes + bytes);
  }

  /** Makes room for an element of at most so many bytes and its length. */
  reserve(bytes: number): void {
    if (this.position + 4 + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafe(2 * this.buffer.length + bytes);
    this.buffer.copy(grown, 0, 0, this.position);
    this.buffer = grown;
  }

  length(bytes: number): void {
    this.position = this.buffer.writeInt32BE(bytes, this.position);
  }

  finish(elementType: number, count: number): Buffer {
    writeArrayHeader(this.buffer, elementType, count);
    return this.buffer.subarray(0, this.position);
  }
}

/** What stands before the elements; each of them is its length in four bytes, -1 for null, and its bytes. */
export const arrayHeaderBytes = 20;

/** PostgreSQL's numbers of the types of elements. */
export const elementTypes = {
  bytea: 17,
  int8: 20,
  int2: 21,
  int4: 23,
  float8: 701,
  text: 25,
  json: 114,
  timestamptz: 1184,
  uuid: 2950,
} as const;

/** Writes the header of an array with one dimension; returns the position of the first element. */
export function writeArrayHeader(target: Buffer, elementType: number, count: number): number {
  target.writeInt32BE(1, 0); // dimensions
  target.writeInt32BE(1, 4); // may hold nulls
  target.writeInt32BE(elementType, 8);
  target.writeInt32BE(count, 12);
  return target.writeInt32BE(1, 16); // the first index
}

function encode<T>(
  elementType: number,
  elementBytes: number,
  values: readonly (T | null)[],
  write: (writer: ArrayWriter, value: T) => void,
): Buffer {
  const writer = new ArrayWriter(values.length * (4 + elementBytes));
  for (const value of values) {
    if (value === null) {
      writer.reserve(0);
      writer.length(-1);
    } else {
      write(writer, value);
    }
  }
  return writer.finish(elementType, values.length);
}

const hexDigits = new Uint8Array(128);
for (let digit = 0; digit < 16; digit++) {
  hexDigits[digit.toString(16).charCodeAt(0)] = digit;
  hexDigits[digit.toString(16).toUpperCase().charCodeAt(0)] = digit;
}

/** uuid[]; each in the usual form of 36 characters. */
export function uuidArray(values: readonly string[]): Buffer {
  return encode(elementTypes.uuid, 16, values, (writer, value) => {
    writer.length(16);
    const { buffer } = writer;
    let at = writer.position;
    for (let index = 0; index < 36; index += 2) {
      if (value.charCodeAt(index) === 0x2d) index++;
      buffer[at++] =
        ((hexDigits[value.charCodeAt(index)] as number) << 4) |
        (hexDigits[value.charCodeAt(index + 1)] as number);
    }
    writer.position = at;
  });
}

function textsOf(elementType: number, typicalBytes: number, values: readonly (string | null)[]): Buffer {
  return encode(elementType, typicalBytes, values, (writer, value) => {
    writer.reserve(3 * value.length);
    const bytes = writer.buffer.write(value, writer.position + 4);
    writer.length(bytes);
    writer.position += bytes;
  });
}

/** text[] */
export const textArray = (values: readonly (string | null)[]): Buffer =>
  textsOf(elementTypes.text, 40, values);

/** json[], of texts that are JSON. */
export const jsonArray = (values: readonly (string | null)[]): Buffer =>
  textsOf(elementTypes.json, 600, values);

/** bytea[], of bytes as Latin-1 texts. */
export function byteaArray(values: readonly string[]): Buffer {
  return encode(elementTypes.bytea, 16, values, (writer, value) => {
    writer.reserve(value.length);
    writer.length(value.length);
    writer.position += writer.buffer.write(value, writer.position, "latin1");
  });
}

/** bytea[] */
export function bufferArray(values: readonly Buffer[]): Buffer {
  return encode(elementTypes.bytea, 1_000, values, (writer, value) => {
    writer.reserve(value.length);
    writer.length(value.length);
    writer.position += value.copy(writer.buffer, writer.position);
  });
}

/** smallint[] */
export function int2Array(values: readonly number[]): Buffer {
  return encode(elementTypes.int2, 2, values, (writer, value) => {
    writer.length(2);
    writer.position = writer.buffer.writeInt16BE(value, writer.position);
  });
}

/** integer[] */
export function int4Array(values: readonly number[]): Buffer {
  return encode(elementTypes.int4, 4, values, (writer, value) => {
    writer.length(4);
    writer.position = writer.buffer.writeInt32BE(value, writer.position);
  });
}

/** bigint[] */
export function int8Array(values: readonly (bigint | null)[]): Buffer {
  return encode(elementTypes.int8, 8, values, (writer, value) => {
    writer.length(8);
    writer.position = writer.buffer.writeBigInt64BE(value, writer.position);
  });
}

/** double precision[] */
export function float8Array(values: readonly number[]): Buffer {
  return encode(elementTypes.float8, 8, values, (writer, value) => {
    writer.length(8);
    writer.position = writer.buffer.writeDoubleBE(value, writer.position);
  });
}

/** What PostgreSQL counts time from. */
export const year2000Ms = Date.UTC(2000, 0, 1);

/** timestamptz[] */
export function timestampArray(values: readonly (Date | null)[]): Buffer {
  return encode(elementTypes.timestamptz, 8, values, (writer, value) => {
    writer.length(8);
    writer.position = writeTimestamp(writer.buffer, writer.position, value.getTime());
  });
}

/** Writes a time in milliseconds as PostgreSQL's microseconds, which are no exact number from 2285 on; returns the position behind it. */
export function writeTimestamp(target: Buffer, at: number, ms: number): number {
  const high = Math.floor((ms - year2000Ms) / 0x1_0000);
  const low = (ms - year2000Ms - high * 0x1_0000) * 1_000;
  const middle = high * 1_000 + Math.floor(low / 0x1_0000);
  target.writeInt32BE(Math.floor(middle / 0x1_0000), at);
  return target.writeInt32BE((middle << 16) | (low & 0xffff), at + 4);
}
