/**
 * Columns of int32 as bytes, for a row of a table: each column is stored as what its numbers exceed the least of them, in as few
 * bytes as the greatest needs, none where all are equal. It is read whole, so there is nothing to search within.
 *
 * Layout, all of it big-endian but the numbers themselves: the length of the columns (4 bytes); for each column its least number
 * (4) and the bytes of a number (1); then the numbers, column by column, little-endian.
 */

const lengthBytes = 4;
const headerBytes = 5;

export function encodeColumns(columns: readonly Int32Array[]): Buffer {
  const length = columns[0]?.length ?? 0;
  const bounds = columns.map(boundsOf);
  const widths = bounds.map(({ least, greatest }) => bytesOf((greatest - least) >>> 0));
  const start = lengthBytes + headerBytes * columns.length;
  const bytes = Buffer.alloc(widths.reduce((sum, width) => sum + width * length, start));
  bytes.writeInt32BE(length, 0);
  let at = start;
  for (const [index, column] of columns.entries()) {
    const least = (bounds[index] as Bounds).least;
    const width = widths[index] as number;
    bytes.writeInt32BE(least, lengthBytes + headerBytes * index);
    bytes[lengthBytes + headerBytes * index + 4] = width;
    for (let byte = 0; byte < width; byte++) {
      for (let place = 0, to = at + byte; place < length; place++, to += width)
        bytes[to] = ((column[place] as number) - least) >>> (8 * byte);
    }
    at += width * length;
  }
  return bytes;
}

/** Reads what `encodeColumns` wrote. Throws a RangeError for bytes that are not that. */
export function decodeColumns(bytes: Buffer, count: number): Int32Array[] {
  const length = bytes.readInt32BE(0);
  let at = lengthBytes + headerBytes * count;
  const columns: Int32Array[] = [];
  for (let index = 0; index < count; index++) {
    const least = bytes.readInt32BE(lengthBytes + headerBytes * index);
    const width = bytes[lengthBytes + headerBytes * index + 4] as number;
    const column = new Int32Array(length).fill(least);
    for (let byte = 0; byte < width; byte++) {
      for (let place = 0, from = at + byte; place < length; place++, from += width)
        column[place] = (column[place] as number) + ((bytes[from] as number) << (8 * byte));
    }
    columns.push(column);
    at += width * length;
  }
  if (at !== bytes.length) throw new RangeError("the columns of a rollup are not as they were written");
  return columns;
}

interface Bounds {
  readonly least: number;
  readonly greatest: number;
}

function boundsOf(column: Int32Array): Bounds {
  let [least, greatest] = [column[0] ?? 0, column[0] ?? 0];
  for (let place = 1; place < column.length; place++) {
    const number = column[place] as number;
    if (number < least) least = number;
    if (number > greatest) greatest = number;
  }
  return { least, greatest };
}

const bytesOf = (number: number): number => Math.ceil((32 - Math.clz32(number)) / 8);
