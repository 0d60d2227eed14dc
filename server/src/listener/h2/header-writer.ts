/** Writes header blocks: HPACK (RFC 7541) without a dynamic table, so that no answer depends on those before it. */
import { staticIndexOf } from "./hpack-table.ts";

/** At the beginning of a connection's first block: the table for answers stays empty, whatever the client offers. */
export const noTable = 0x20;

/** The static table has `:status 200` whole. */
const statusOk = 0x88;

const maxKnownNames = 1_000;
/** What stands before the value of a field: few names come again and again. */
const heads = new Map<string, Buffer>();

function headOf(name: string): Buffer {
  let head = heads.get(name);
  if (!head) {
    const index = staticIndexOf.get(name);
    const target = Buffer.alloc(name.length + 8);
    let at = 0;
    if (index === undefined) {
      target[at++] = 0;
      at = writeInteger(target, at, 0, 0x7f, name.length);
      at += target.write(name, at, "latin1");
    } else at = writeInteger(target, at, 0, 0x0f, index);
    head = target.subarray(0, at);
    if (heads.size < maxKnownNames) heads.set(name, head);
  }
  return head;
}

/** The most bytes that the fields take. */
export function blockBytes(fields: readonly string[]): number {
  let size = 1;
  for (let index = 0; index < fields.length; index += 2)
    size += 12 + (fields[index] as string).length + (fields[index + 1] as string).length;
  return size;
}

/** Writes names and values in turn; returns the position behind them. Throws for a value that no header can hold. */
export function writeFields(target: Buffer, start: number, fields: readonly string[]): number {
  let at = start;
  for (let index = 0; index < fields.length; index += 2) {
    const name = fields[index] as string;
    const value = fields[index + 1] as string;
    if (name === ":status" && value === "200") {
      target[at++] = statusOk;
      continue;
    }
    const head = headOf(name);
    for (let from = 0; from < head.length; from++) target[at++] = head[from] as number;
    at = writeInteger(target, at, 0, 0x7f, value.length);
    at = writeText(target, at, name, value);
  }
  return at;
}

function writeText(target: Buffer, start: number, name: string, value: string): number {
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index);
    // Other control characters are sent, as Node sends them: \r, \n and \0 are in no `Headers`.
    if (code > 0xff) throw new TypeError(`the header ${name} holds what no header can hold`);
    target[start + index] = code;
  }
  return start + value.length;
}

function writeInteger(target: Buffer, start: number, pattern: number, mask: number, value: number): number {
  let at = start;
  if (value < mask) {
    target[at++] = pattern | value;
    return at;
  }
  target[at++] = pattern | mask;
  let left = value - mask;
  while (left >= 0x80) {
    target[at++] = (left & 0x7f) | 0x80;
    left >>>= 7;
  }
  target[at++] = left;
  return at;
}
