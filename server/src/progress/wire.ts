/** How the lean path writes the answers of ReportProgress: at one go, for each of hundreds of callers of one file. */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import type { Timestamp } from "@bufbuild/protobuf/wkt";
import type { Progress, ReportProgressResponse } from "../gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../gen/pulsewire/progress/v1/progress_service_pb.js";
import type { Encoder } from "../listener/lean/method.ts";
import { ByteWriter } from "../metrics/storage/bytes.ts";

/** Room for all fields but the texts. */
const roomForNumbers = 256;
/** Bytes of a UTF-16 unit in UTF-8, at most. */
const bytesOfUnit = 3;
/** What fits into a length of one byte, and of two. */
const [short, long] = [1 << 7, 1 << 14];

export const progressEncoders: ReadonlyMap<DescMethod, Encoder> = new Map<DescMethod, Encoder>([
  [ProgressService.method.reportProgress, encodeReportAnswer],
]);

/** The bytes of an answer, as `toBinary` writes them. Undefined where it has line issues, or is else no ordinary one. */
export function encodeReportAnswer(message: Message): Uint8Array | undefined {
  const { result, progress, errors, warnings, $unknown } = message as ReportProgressResponse;
  if (!progress || errors.length > 0 || warnings.length > 0) return undefined;
  if ($unknown || progress.$unknown || !isOrdinary(progress)) return undefined;
  const { id, clientKrn, filename, email } = progress;
  const units = id.length + clientKrn.length + filename.length + email.length;
  const writer = new ByteWriter(roomForNumbers + bytesOfUnit * units);
  if (result !== 0) {
    tag(writer, 1, varint);
    writer.varint(result);
  }
  tag(writer, 2, delimited);
  // Its length is known afterwards, and takes two bytes as a rule.
  const start = writer.position + 2;
  writer.position = start;
  writeProgress(writer, progress);
  const length = writer.position - start;
  if (length < short || length >= long) return undefined;
  writer.buffer[start - 2] = (length & 127) | 128;
  writer.buffer[start - 1] = length >> 7;
  return writer.finish();
}

const isWhole = (value: bigint) => value >= 0n && value <= Number.MAX_SAFE_INTEGER;

function isOrdinary({ counts, total, version, errorCount, warningCount }: Progress): boolean {
  return (
    counts !== undefined &&
    counts.$unknown === undefined &&
    isWhole(counts.done) &&
    isWhole(counts.warn) &&
    isWhole(counts.failed) &&
    isWhole(version) &&
    isWhole(errorCount) &&
    isWhole(warningCount) &&
    (total === undefined || isWhole(total))
  );
}

function writeProgress(writer: ByteWriter, message: Progress): void {
  const { counts, total, percentage } = message;
  text(writer, 1, message.id);
  text(writer, 2, message.clientKrn);
  text(writer, 3, message.filename);
  text(writer, 4, message.email);
  if (counts) {
    const start = open(writer, 5);
    count(writer, 1, counts.done);
    count(writer, 2, counts.warn);
    count(writer, 3, counts.failed);
    close(writer, start);
  }
  if (total !== undefined) {
    tag(writer, 6, varint);
    writer.varint(Number(total));
  }
  flag(writer, 7, message.isCompleted);
  time(writer, 8, message.createdAt);
  time(writer, 9, message.updatedAt);
  count(writer, 10, message.version);
  count(writer, 11, message.errorCount);
  count(writer, 12, message.warningCount);
  if (!Object.is(message.rate, 0)) number(writer, 13, message.rate);
  if (percentage !== undefined) number(writer, 14, percentage);
  time(writer, 15, message.eta);
  flag(writer, 16, message.stalled);
  time(writer, 17, message.stallsAt);
  time(writer, 18, message.completedAt);
  time(writer, 19, message.finalAt);
}

const [varint, fixed64, delimited] = [0, 1, 2];

const tag = (writer: ByteWriter, field: number, type: number) => writer.varint((field << 3) | type);

/** Begins a message of fewer than 128 bytes. */
function open(writer: ByteWriter, field: number): number {
  tag(writer, field, delimited);
  writer.position++;
  return writer.position;
}

function close(writer: ByteWriter, start: number): void {
  writer.buffer[start - 1] = writer.position - start;
}

function text(writer: ByteWriter, field: number, value: string): void {
  if (value === "") return;
  tag(writer, field, delimited);
  writer.varint(Buffer.byteLength(value));
  writer.position += writer.buffer.write(value, writer.position);
}

function count(writer: ByteWriter, field: number, value: bigint): void {
  if (value === 0n) return;
  tag(writer, field, varint);
  writer.varint(Number(value));
}

function flag(writer: ByteWriter, field: number, value: boolean): void {
  if (!value) return;
  tag(writer, field, varint);
  writer.byte(1);
}

function number(writer: ByteWriter, field: number, value: number): void {
  tag(writer, field, fixed64);
  writer.double(value);
}

function time(writer: ByteWriter, field: number, value: Timestamp | undefined): void {
  if (!value) return;
  const start = open(writer, field);
  count(writer, 1, value.seconds);
  if (value.nanos !== 0) {
    tag(writer, 2, varint);
    writer.varint(value.nanos);
  }
  close(writer, start);
}
