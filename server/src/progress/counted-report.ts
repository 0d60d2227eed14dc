/**
 * Answers of ReportProgress, for the lean path: hundreds of callers of one file are answered at one go, and their answers differ
 * in the counts and the rate alone. All else is written once for all of them.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import type { LineIssue } from "../gen/pulsewire/progress/v1/line_issue_pb.js";
import {
  type Progress,
  type ReportProgressResponse,
  ReportProgressResponseSchema,
  ReportResult,
} from "../gen/pulsewire/progress/v1/progress_pb.js";
import { ByteWriter } from "../metrics/storage/bytes.ts";
import { type Derived, derive, rateOf } from "./derive.ts";
import type { FileState } from "./fold.ts";
import { type ProgressTimes, toProgress } from "./messages.ts";

/** What a report without line issues is answered with. Read as a message it is the usual one. */
export class CountedReport implements ReportProgressResponse {
  readonly $typeName = ReportProgressResponseSchema.typeName;
  readonly result: ReportResult;
  readonly #file: FileState;
  readonly #frame: AnswerFrame;
  #message: ReportProgressResponse | undefined;

  constructor(result: ReportResult, file: FileState, frame: AnswerFrame) {
    this.result = result;
    this.#file = file;
    this.#frame = frame;
  }

  /** The message, for whoever writes it in another form. */
  get message(): ReportProgressResponse {
    if (!this.#message) {
      const { clientKrn, filename, times } = this.#frame;
      const progress = toProgress(clientKrn, filename, this.#file, this.#file.updatedAt, times);
      this.#message = create(ReportProgressResponseSchema, { result: this.result, progress });
    }
    return this.#message;
  }
  get progress(): Progress | undefined {
    return this.message.progress;
  }
  get errors(): LineIssue[] {
    return this.message.errors;
  }
  get warnings(): LineIssue[] {
    return this.message.warnings;
  }

  /** As `toJsonString` writes it. */
  json(): string {
    return this.#frame.json(this.result, this.#file);
  }

  /** As `toBinary` writes it. */
  bytes(): Uint8Array {
    return this.#frame.bytes(this.result, this.#file) ?? toBinary(ReportProgressResponseSchema, this.message);
  }
}

/** Makes answers. */
export function createCountedReports(times: ProgressTimes) {
  let last: AnswerFrame | undefined;
  return (
    result: ReportResult,
    file: FileState,
    { clientKrn, filename }: { readonly clientKrn: string; readonly filename: string },
  ): CountedReport => {
    if (!last?.fits(file)) last = new AnswerFrame(clientKrn, filename, file, times);
    return new CountedReport(result, file, last);
  };
}

const resultNames: Readonly<Record<ReportResult, string>> = {
  [ReportResult.UNSPECIFIED]: "REPORT_RESULT_UNSPECIFIED",
  [ReportResult.CREATED]: "REPORT_RESULT_CREATED",
  [ReportResult.UPDATED]: "REPORT_RESULT_UPDATED",
  [ReportResult.DUPLICATE]: "REPORT_RESULT_DUPLICATE",
};

/** What is the same in the answers to reports that were counted together. */
class AnswerFrame {
  readonly clientKrn: string;
  readonly filename: string;
  readonly times: ProgressTimes;
  readonly #file: FileState;
  /** Where nothing but the rate follows from the counts. */
  readonly #hasOnlyRate: boolean;
  #json: JsonParts | undefined;
  #bytes: ByteParts | undefined;

  constructor(clientKrn: string, filename: string, file: FileState, times: ProgressTimes) {
    this.clientKrn = clientKrn;
    this.filename = filename;
    this.times = times;
    this.#file = file;
    this.#hasOnlyRate = file.total === null && file.completedAt === null;
  }

  /** Whether nothing but counts and rate of a state is another. */
  fits({ id, version, total, errorCount, warningCount, updatedAt, completedAt }: FileState): boolean {
    const own = this.#file;
    return (
      version === own.version &&
      updatedAt === own.updatedAt &&
      completedAt === own.completedAt &&
      total === own.total &&
      errorCount === own.errorCount &&
      warningCount === own.warningCount &&
      id === own.id
    );
  }

  json(result: ReportResult, file: FileState): string {
    this.#json ??= jsonParts(this.clientKrn, this.filename, file, this.times);
    const { head, middle, tail } = this.#json;
    const { rate, percentage, eta } = this.#derive(file);
    let text = `{"result":"${resultNames[result]}","progress":${head}${countsJson(file)}${middle}`;
    if (rate !== 0) text += `,"rate":${rate}`;
    if (percentage !== undefined) text += `,"percentage":${percentage}`;
    if (eta) text += `,"eta":${timeJson(eta)}`;
    return text + tail;
  }

  /** Undefined where a count has more than 53 bits. */
  bytes(result: ReportResult, file: FileState): Uint8Array | undefined {
    if (file.done > exact || file.warn > exact || file.failed > exact) return undefined;
    this.#bytes ??= byteParts(this.clientKrn, this.filename, file, this.times);
    const { head, middle, tail } = this.#bytes;
    const { rate, percentage, eta } = this.#derive(file);
    const writer = new ByteWriter(mostOthers + head.length + middle.length + tail.length);
    writer.position = mostBefore;
    writer.bytes(head);
    writeCounts(writer, file);
    writer.bytes(middle);
    if (rate !== 0) writeDouble(writer, 13, rate);
    if (percentage !== undefined) writeDouble(writer, 14, percentage);
    if (eta) writeTime(writer, 15, eta);
    writer.bytes(tail);
    return withHead(writer, result);
  }

  #derive(file: FileState): Pick<Derived, "rate" | "percentage" | "eta"> {
    if (!this.#hasOnlyRate) return derive(file, file.updatedAt, this.times.stallMs);
    return {
      rate: rateOf(file.recent, file.createdAt, file.updatedAt),
      percentage: undefined,
      eta: undefined,
    };
  }
}

// --- JSON -----------------------------------------------------------------------------------------------------------

interface JsonParts {
  readonly head: string;
  /** From the counts to the rate. */
  readonly middle: string;
  /** After what is derived. */
  readonly tail: string;
}

function jsonParts(clientKrn: string, filename: string, file: FileState, times: ProgressTimes): JsonParts {
  const { stalled, stallsAt, completedAt, finalAt } = endOf(file, times);
  const member = (name: string, value: string | undefined) =>
    value === undefined ? "" : `,"${name}":${value}`;
  const text = (value: string) => (value === "" ? undefined : JSON.stringify(value));
  const count = (value: bigint) => (value === 0n ? undefined : `"${value}"`);
  const time = (value: Date | undefined) => value && timeJson(value);
  return {
    head: `{"id":"${file.id}"${member("clientKrn", text(clientKrn))}${member("filename", text(filename))}${member("email", text(file.creator.email))}`,
    middle:
      member("total", file.total === null ? undefined : `"${file.total}"`) +
      member("isCompleted", completedAt && "true") +
      member("createdAt", timeJson(file.createdAt)) +
      member("updatedAt", timeJson(file.updatedAt)) +
      member("version", count(file.version)) +
      member("errorCount", count(file.errorCount)) +
      member("warningCount", count(file.warningCount)),
    tail: `${member("stalled", stalled ? "true" : undefined)}${member("stallsAt", time(stallsAt))}${member("completedAt", time(completedAt))}${member("finalAt", time(finalAt))}}}`,
  };
}

function countsJson({ done, warn, failed }: FileState): string {
  let members = "";
  if (done !== 0n) members = `"done":"${done}"`;
  if (warn !== 0n) members += `${members === "" ? "" : ","}"warn":"${warn}"`;
  if (failed !== 0n) members += `${members === "" ? "" : ","}"failed":"${failed}"`;
  return `,"counts":{${members}}`;
}

/** Without a fraction that is nothing. */
const timeJson = (time: Date) => `"${time.toISOString().replace(".000Z", "Z")}"`;

// --- Protobuf -------------------------------------------------------------------------------------------------------

interface ByteParts {
  readonly head: Uint8Array;
  readonly middle: Uint8Array;
  readonly tail: Uint8Array;
}

const exact = BigInt(Number.MAX_SAFE_INTEGER);
const [varint, fixed64, delimited] = [0, 1, 2];
/** Tag and value of the result, tag and length of the file. */
const mostBefore = 2 + 1 + 5;
const mostCounts = 2 + 3 * 9;
const mostDerived = 2 * 9 + 16;
const mostOthers = mostBefore + mostCounts + mostDerived;
/** Room for the fields of a part but for the texts. */
const roomOfPart = 128;

const writeTag = (writer: ByteWriter, field: number, type: number) => writer.varint((field << 3) | type);

function byteParts(clientKrn: string, filename: string, file: FileState, times: ProgressTimes): ByteParts {
  const { stalled, stallsAt, completedAt, finalAt } = endOf(file, times);
  const texts = [file.id, clientKrn, filename, file.creator.email].map((each) => Buffer.from(each));
  const head = new ByteWriter(texts.reduce((sum, { length }) => sum + 8 + length, 0));
  texts.forEach((text, index) => {
    if (text.length === 0) return;
    writeTag(head, 1 + index, delimited);
    head.varint(text.length);
    head.bytes(text);
  });
  const middle = new ByteWriter(roomOfPart);
  if (file.total !== null) {
    writeTag(middle, 6, varint);
    middle.varint(Number(file.total));
  }
  writeFlag(middle, 7, completedAt !== undefined);
  writeTime(middle, 8, file.createdAt);
  writeTime(middle, 9, file.updatedAt);
  writeCount(middle, 10, file.version);
  writeCount(middle, 11, file.errorCount);
  writeCount(middle, 12, file.warningCount);
  const tail = new ByteWriter(roomOfPart);
  writeFlag(tail, 16, stalled);
  if (stallsAt) writeTime(tail, 17, stallsAt);
  if (completedAt) writeTime(tail, 18, completedAt);
  if (finalAt) writeTime(tail, 19, finalAt);
  return { head: head.finish(), middle: middle.finish(), tail: tail.finish() };
}

/** Writes what stands before the file, whose length is known now. */
function withHead(writer: ByteWriter, result: ReportResult): Uint8Array {
  const end = writer.position;
  const length = end - mostBefore;
  const lengthBytes = length < 1 << 7 ? 1 : length < 1 << 14 ? 2 : 3;
  const start = mostBefore - lengthBytes - 3;
  writer.position = start;
  writer.byte(0x08);
  writer.byte(result);
  writer.byte(0x12);
  writer.varint(length);
  return writer.buffer.subarray(start, end);
}

function writeCounts(writer: ByteWriter, { done, warn, failed }: FileState): void {
  writeTag(writer, 5, delimited);
  const start = ++writer.position;
  writeCount(writer, 1, done);
  writeCount(writer, 2, warn);
  writeCount(writer, 3, failed);
  writer.buffer[start - 1] = writer.position - start;
}

function writeCount(writer: ByteWriter, field: number, value: bigint): void {
  if (value === 0n) return;
  writeTag(writer, field, varint);
  writer.varint(Number(value));
}

function writeFlag(writer: ByteWriter, field: number, value: boolean): void {
  if (!value) return;
  writeTag(writer, field, varint);
  writer.byte(1);
}

function writeDouble(writer: ByteWriter, field: number, value: number): void {
  writeTag(writer, field, fixed64);
  writer.double(value);
}

/** A time after 1970. */
function writeTime(writer: ByteWriter, field: number, time: Date): void {
  writeTag(writer, field, delimited);
  const start = ++writer.position;
  const ms = time.getTime();
  const nanos = (ms % 1_000) * 1_000_000;
  if (ms >= 1_000) {
    writeTag(writer, 1, varint);
    writer.varint(Math.floor(ms / 1_000));
  }
  if (nanos > 0) {
    writeTag(writer, 2, varint);
    writer.varint(nanos);
  }
  writer.buffer[start - 1] = writer.position - start;
}

// --------------------------------------------------------------------------------------------------------------------

/** What is said of a file after what is derived from its counts. */
function endOf(file: FileState, { stallMs, graceMs }: ProgressTimes) {
  const { completedAt, updatedAt } = file;
  if (completedAt) {
    const finalAt = new Date(completedAt.getTime() + graceMs);
    return { stalled: false, stallsAt: undefined, completedAt, finalAt };
  }
  const stallsAt = new Date(updatedAt.getTime() + stallMs);
  return { stalled: stallsAt <= updatedAt, stallsAt, completedAt: undefined, finalAt: undefined };
}
