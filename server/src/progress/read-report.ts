/**
 * Reads ReportProgressRequest from the wire as it usually is: each field once, ASCII without escapes, no line issues. Whatever
 * is otherwise, and all that is wrong, is left to the library, so that the rules and their errors have one source.
 */
import { create } from "@bufbuild/protobuf";
import type { LineIssue } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import {
  type CountIncrements,
  CountIncrementsSchema,
  type ReportProgressRequest,
  ReportProgressRequestSchema,
} from "../gen/pulsewire/progress/v1/progress_pb.js";

const noIssues = Object.freeze<LineIssue[]>([]) as LineIssue[];

/** A request that was read here: as a message it is the usual one. */
export class ReadReport implements ReportProgressRequest {
  readonly $typeName = ReportProgressRequestSchema.typeName;
  clientKrn = "";
  filename = "";
  counts: CountIncrements | undefined = undefined;
  total = 0n;
  isLast = false;
  readonly errors = noIssues;
  readonly warnings = noIssues;
  updateId = "";
  email = "";
  readonly requestId = "";
}

/** Fields as bits, by which a second one is found. */
type Seen = number;

const textFields = { clientKrn: 1, filename: 2, updateId: 8, email: 9 } as const;

// --- JSON -----------------------------------------------------------------------------------------------------------

const [quote, colon, comma, openBrace, closeBrace, zero, nine] = [0x22, 0x3a, 0x2c, 0x7b, 0x7d, 0x30, 0x39];
/** Printable ASCII but for the quote and the backslash. */
const plainText = /^[ !#-[\]-~]*$/;
/** Digits that are exact as a number. */
const maxDigits = 15;

/** A request in ProtoJSON; undefined: the library is to read it. */
export function readReportJson(text: string): ReadReport | undefined {
  const reader = new JsonScanner(text);
  const report = new ReadReport();
  const read = reader.object((key) => {
    switch (key) {
      case "clientKrn":
      case "filename":
      case "updateId":
      case "email": {
        const value = reader.text();
        if (value === undefined) return 0;
        report[key] = value;
        return 1 << textFields[key];
      }
      case "counts": {
        const counts = create(CountIncrementsSchema);
        if (!reader.object((name) => readCount(reader, counts, name))) return 0;
        report.counts = counts;
        return 1 << 3;
      }
      case "total": {
        const total = reader.number();
        if (total === undefined) return 0;
        report.total = BigInt(total);
        return 1 << 4;
      }
      case "isLast": {
        const value = reader.boolean();
        if (value === undefined) return 0;
        report.isLast = value;
        return 1 << 5;
      }
      default:
        return 0;
    }
  });
  return read && reader.isAtEnd() ? report : undefined;
}

function readCount(reader: JsonScanner, counts: CountIncrements, name: string): Seen {
  if (name !== "done" && name !== "warn" && name !== "failed") return 0;
  const value = reader.number();
  if (value === undefined) return 0;
  counts[name] = BigInt(value);
  return name === "done" ? 1 : name === "warn" ? 2 : 4;
}

/** Goes through a text of JSON from left to right. What it does not know is undefined. */
class JsonScanner {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Reads an object; `member` reads the value of a key, and says which one it was, 0: none that is known. */
  object(member: (key: string) => Seen): boolean {
    if (!this.#take(openBrace)) return false;
    if (this.#take(closeBrace)) return true;
    let seen = 0;
    do {
      const key = this.text();
      if (key === undefined || !this.#take(colon)) return false;
      const field = member(key);
      if (field === 0 || seen & field) return false;
      seen |= field;
    } while (this.#take(comma));
    return this.#take(closeBrace);
  }

  text(): string | undefined {
    if (!this.#take(quote)) return undefined;
    const end = this.#text.indexOf('"', this.#at);
    if (end < 0) return undefined;
    const value = this.#text.slice(this.#at, end);
    this.#at = end + 1;
    return plainText.test(value) ? value : undefined;
  }

  /** A whole number, bare or as text. */
  number(): number | undefined {
    const quoted = this.#take(quote);
    const start = this.#at;
    let value = 0;
    for (; ; this.#at++) {
      const digit = this.#text.charCodeAt(this.#at);
      if (!(digit >= zero && digit <= nine)) break;
      value = 10 * value + digit - zero;
    }
    const length = this.#at - start;
    if (length === 0 || length > maxDigits || (length > 1 && this.#text.charCodeAt(start) === zero))
      return undefined;
    // At the byte after the last digit: no space, and no fraction or exponent.
    if (quoted) return this.#text.charCodeAt(this.#at++) === quote ? value : undefined;
    return this.#isAfterValue() ? value : undefined;
  }

  boolean(): boolean | undefined {
    this.#skipSpace();
    const value = this.#text.startsWith("true", this.#at);
    if (!value && !this.#text.startsWith("false", this.#at)) return undefined;
    this.#at += value ? 4 : 5;
    return value;
  }

  isAtEnd(): boolean {
    this.#skipSpace();
    return this.#at === this.#text.length;
  }

  #isAfterValue(): boolean {
    this.#skipSpace();
    const next = this.#text.charCodeAt(this.#at);
    return next === comma || next === closeBrace;
  }

  #take(character: number): boolean {
    this.#skipSpace();
    if (this.#text.charCodeAt(this.#at) !== character) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    for (; ; this.#at++) {
      const character = this.#text.charCodeAt(this.#at);
      if (character !== 0x20 && character !== 0x0a && character !== 0x0d && character !== 0x09) return;
    }
  }
}

// --- Protobuf -------------------------------------------------------------------------------------------------------

/** Bytes of a number that is exact. */
const maxVarintBytes = 7;

/** A request in Protobuf; undefined: the library is to read it. */
export function readReportBytes(bytes: Uint8Array): ReadReport | undefined {
  const reader = new ByteScanner(bytes, 0, bytes.length);
  const report = new ReadReport();
  let seen = 0;
  while (!reader.isAtEnd()) {
    const tag = reader.varint();
    const field = 1 << (tag >> 3);
    if (seen & field) return undefined;
    seen |= field;
    switch (tag) {
      case 0x0a:
        report.clientKrn = reader.text();
        break;
      case 0x12:
        report.filename = reader.text();
        break;
      case 0x1a:
        report.counts = readCounts(reader.message());
        if (!report.counts) return undefined;
        break;
      case 0x20:
        report.total = BigInt(reader.varint());
        break;
      case 0x28: {
        const value = reader.varint();
        if (value > 1) return undefined;
        report.isLast = value === 1;
        break;
      }
      case 0x42:
        report.updateId = reader.text();
        break;
      case 0x4a:
        report.email = reader.text();
        break;
      default:
        return undefined;
    }
    if (reader.failed) return undefined;
  }
  return report;
}

function readCounts(reader: ByteScanner): CountIncrements | undefined {
  const counts = create(CountIncrementsSchema);
  while (!reader.isAtEnd()) {
    const tag = reader.varint();
    const value = BigInt(reader.varint());
    if (reader.failed) return undefined;
    if (tag === 0x08) counts.done = value;
    else if (tag === 0x10) counts.warn = value;
    else if (tag === 0x18) counts.failed = value;
    else return undefined;
  }
  return reader.failed ? undefined : counts;
}

/** Goes through bytes from left to right. What cannot be read makes it `failed`. */
class ByteScanner {
  failed = false;
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  isAtEnd(): boolean {
    return this.#at >= this.#end;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < maxVarintBytes && this.#at < this.#end; count++) {
      const byte = this.#bytes[this.#at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    return this.#fail(0);
  }

  /** ASCII; what is beyond fails. */
  text(): string {
    const length = this.varint();
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) return this.#fail("");
    for (let at = start; at < end; at++) if ((this.#bytes[at] as number) > 127) return this.#fail("");
    this.#at = end;
    return Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString("latin1");
  }

  /** What lies in a field of a message. */
  message(): ByteScanner {
    const length = this.varint();
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) this.failed = true;
    else this.#at = end;
    return new ByteScanner(this.#bytes, start, Math.min(end, this.#end));
  }

  #fail<T>(value: T): T {
    this.failed = true;
    return value;
  }
}
