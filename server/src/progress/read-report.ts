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

const textFields = { clientKrn: 1, filename: 2, updateId: 8, email: 9 } as const;

// --- JSON -----------------------------------------------------------------------------------------------------------

const [quote, colon, comma, openBrace, closeBrace, zero, nine] = [0x22, 0x3a, 0x2c, 0x7b, 0x7d, 0x30, 0x39];
const [firstPrintable, backslash, lastPrintable] = [0x20, 0x5c, 0x7e];
/** Digits that are exact as a number. */
const maxDigits = 15;
const countBits = { done: 1, warn: 2, failed: 4 } as const;

/** A request in ProtoJSON; undefined: the library is to read it. */
export function readReportJson(text: string): ReadReport | undefined {
  const scanner = new JsonScanner(text);
  const report = new ReadReport();
  let seen = 0;
  if (!scanner.take(openBrace)) return undefined;
  do {
    const key = scanner.text();
    if (!scanner.take(colon)) return undefined;
    let field: number;
    switch (key) {
      case "clientKrn":
      case "filename":
      case "updateId":
      case "email":
        report[key] = scanner.text();
        field = textFields[key];
        break;
      case "counts":
        report.counts = readCountsJson(scanner);
        field = 3;
        break;
      case "total":
        report.total = BigInt(scanner.number());
        field = 4;
        break;
      case "isLast":
        report.isLast = scanner.boolean();
        field = 5;
        break;
      default:
        return undefined;
    }
    if (scanner.failed || seen & (1 << field)) return undefined;
    seen |= 1 << field;
  } while (scanner.take(comma));
  return scanner.take(closeBrace) && scanner.isAtEnd() ? report : undefined;
}

function readCountsJson(scanner: JsonScanner): CountIncrements {
  const counts = create(CountIncrementsSchema);
  if (!scanner.take(openBrace)) scanner.failed = true;
  if (scanner.take(closeBrace)) return counts;
  let seen = 0;
  do {
    const key = scanner.text();
    if (!scanner.take(colon) || (key !== "done" && key !== "warn" && key !== "failed")) {
      scanner.failed = true;
      return counts;
    }
    counts[key] = BigInt(scanner.number());
    if (seen & countBits[key]) scanner.failed = true;
    seen |= countBits[key];
  } while (!scanner.failed && scanner.take(comma));
  if (!scanner.take(closeBrace)) scanner.failed = true;
  return counts;
}

/** Goes through a text of JSON from left to right. What it does not know makes it `failed`. */
class JsonScanner {
  failed = false;
  private readonly json: string;
  private at = 0;

  constructor(json: string) {
    this.json = json;
  }

  /** Whether this character comes next; it is passed over. */
  take(character: number): boolean {
    const next = this.json.charCodeAt(this.at);
    // Most is written without spaces.
    if (next !== character && (next > firstPrintable || !this.skipSpaceTo(character))) return false;
    this.at++;
    return true;
  }

  /** Printable ASCII without escapes. */
  text(): string {
    if (!this.take(quote)) return this.fail("");
    const { json, at: start } = this;
    let at = start;
    for (; ; at++) {
      const character = json.charCodeAt(at);
      if (character === quote) break;
      if (!(character >= firstPrintable && character <= lastPrintable) || character === backslash)
        return this.fail("");
    }
    this.at = at + 1;
    return json.slice(start, at);
  }

  /** A whole number, bare or as text. */
  number(): number {
    const isText = this.take(quote);
    const { json, at: start } = this;
    let at = start;
    let value = 0;
    for (; ; at++) {
      const character = json.charCodeAt(at);
      if (!(character >= zero && character <= nine)) break;
      value = 10 * value + character - zero;
    }
    this.at = at;
    const isGood =
      at > start &&
      at - start <= maxDigits &&
      (value === 0 ? at === start + 1 : json.charCodeAt(start) !== zero);
    if (!isGood) return this.fail(0);
    // Neither a space in the text nor a fraction or an exponent.
    if (isText ? json.charCodeAt(this.at++) !== quote : !this.isAfterValue()) return this.fail(0);
    return value;
  }

  boolean(): boolean {
    this.skipSpaceTo(0);
    const value = this.json.startsWith("true", this.at);
    if (!value && !this.json.startsWith("false", this.at)) return this.fail(false);
    this.at += value ? 4 : 5;
    return value;
  }

  isAtEnd(): boolean {
    this.skipSpaceTo(0);
    return this.at === this.json.length;
  }

  private isAfterValue(): boolean {
    return this.skipSpaceTo(comma) || this.json.charCodeAt(this.at) === closeBrace;
  }

  private skipSpaceTo(character: number): boolean {
    for (; ; this.at++) {
      const next = this.json.charCodeAt(this.at);
      if (next !== 0x20 && next !== 0x0a && next !== 0x0d && next !== 0x09) return next === character;
    }
  }

  private fail<T>(value: T): T {
    this.failed = true;
    return value;
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
  private readonly bytes: Uint8Array;
  private readonly end: number;
  private at: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  isAtEnd(): boolean {
    return this.at >= this.end;
  }

  varint(): number {
    let value = 0;
    let factor = 1;
    for (let count = 0; count < maxVarintBytes && this.at < this.end; count++) {
      const byte = this.bytes[this.at++] as number;
      value += (byte & 127) * factor;
      if (byte < 128) return value;
      factor *= 128;
    }
    return this.fail(0);
  }

  /** ASCII; what is beyond fails. */
  text(): string {
    const length = this.varint();
    const start = this.at;
    const end = start + length;
    if (end > this.end) return this.fail("");
    for (let at = start; at < end; at++) if ((this.bytes[at] as number) > 127) return this.fail("");
    this.at = end;
    return Buffer.from(this.bytes.buffer, this.bytes.byteOffset + start, length).toString("latin1");
  }

  /** What lies in a field of a message. */
  message(): ByteScanner {
    const length = this.varint();
    const start = this.at;
    const end = start + length;
    if (end > this.end) this.failed = true;
    else this.at = end;
    return new ByteScanner(this.bytes, start, Math.min(end, this.end));
  }

  private fail<T>(value: T): T {
    this.failed = true;
    return value;
  }
}
