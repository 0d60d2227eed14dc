/** The little of tar (POSIX ustar) that copies single files into and out of containers. */

const block = 512;

export interface TarEntry {
  /** Without a leading slash; a folder's ends with one. */
  readonly path: string;
  readonly mode: number;
  readonly content: Buffer;
}

/** An archive of these entries. */
export function tarOf(entries: readonly TarEntry[]): Buffer {
  const parts = entries.flatMap(({ path, mode, content }) => {
    const padding = Buffer.alloc((block - (content.length % block)) % block);
    return [header(path, mode, content.length), content, padding];
  });
  return Buffer.concat([...parts, Buffer.alloc(2 * block)]);
}

function header(path: string, mode: number, size: number): Buffer {
  const head = Buffer.alloc(block);
  const octal = (value: number, offset: number, length: number) =>
    head.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset);
  head.write(path, 0);
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(0, 136, 12);
  head.write("        ", 148);
  head.write(path.endsWith("/") ? "5" : "0", 156);
  head.write("ustar\0" + "00", 257);
  let sum = 0;
  for (const byte of head) sum += byte;
  head.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return head;
}

/** The beginning of the first file of an archive, at most `maxBytes`; undefined where it is no regular file. */
export async function firstFile(
  archive: AsyncIterable<Buffer>,
  maxBytes: number,
): Promise<{ bytes: Buffer; truncated: boolean } | undefined> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of archive) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= block + maxBytes) break;
  }
  const all = Buffer.concat(chunks);
  const type = String.fromCharCode(all[156] ?? 0);
  if (all.length < block || (type !== "0" && type !== "\0")) return undefined;
  const size = Number.parseInt(all.toString("latin1", 124, 135), 8);
  const end = block + Math.min(size, maxBytes);
  if (Number.isNaN(size) || all.length < end) return undefined;
  return { bytes: all.subarray(block, end), truncated: size > maxBytes };
}
