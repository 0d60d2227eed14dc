import type { Place } from "./backlog.ts";
import { Code } from "./code.ts";
import { asPulsewireError, PulsewireError } from "./errors.ts";
import { readFields } from "./message-reader.ts";
import { MessageWriter } from "./message-writer.ts";
import { accepted, droppedBy, duplicate, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import type { Item } from "./queue.ts";
import { mayBeRetried } from "./retry.ts";
import { uuidv7 } from "./uuid.ts";

/** What is wrong with one line of a file. */
export interface LineIssueInput {
  /** Number of the line, from 1; 0 where the whole file is meant. */
  line: number;
  /** What is wrong. 1 to 2,000 characters. */
  message: string;
  /** The line itself. At most 10,000 characters. */
  rawLine?: string;
}

/** Progress on one file: what is to be added, not what it comes to. */
export interface ProgressInput {
  /** `krn:<tenant slug>:client:<id>`. */
  clientKrn: string;
  /** The file. 1 to 1,000 characters. */
  filename: string;
  /** Lines processed without fault. */
  done?: number;
  /** Lines processed with a warning. */
  warn?: number;
  /** Lines that failed. */
  failed?: number;
  /** Lines to process; the largest one reported counts. */
  total?: number;
  /** Completes the file; it is sent after all reports before it. */
  isLast?: boolean;
  /** Lines that failed. At most 1,000. They do not add to the counts. */
  errors?: LineIssueInput[];
  /** Lines with a warning. At most 1,000. They do not add to the counts. */
  warnings?: LineIssueInput[];
  /** Id that makes a repetition harmless, unique for the file. Default: a UUIDv7 made now. */
  updateId?: string;
  /** For whom an API key reports. */
  email?: string;
}

/** A report that waits to be sent, encoded. */
export class PackedReport implements Item {
  readonly bytes: Uint8Array;
  sequence = 0;
  place: Place | undefined = undefined;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  get size(): number {
    return this.bytes.length;
  }

  /** What tells it from others, and its place among those of its file. */
  get identity(): ReportIdentity {
    const identity = { clientKrn: "", filename: "", updateId: "", isLast: false };
    readFields(this.bytes, (field, value) => {
      if (field === 1) identity.clientKrn = value.text;
      else if (field === 2) identity.filename = value.text;
      else if (field === 5) identity.isLast = value.number !== 0;
      else if (field === 8) identity.updateId = value.text;
    });
    return identity;
  }
}

interface ReportIdentity {
  clientKrn: string;
  filename: string;
  updateId: string;
  /** It completes the file. */
  isLast: boolean;
}

/** The method that takes a report. */
export const reportProgress = "/pulsewire.progress.v1.ProgressService/ReportProgress";

/**
 * Encodes a report: a ReportProgressRequest.
 *
 * @throws TypeError or RangeError where a field has the wrong type
 */
export function packReport(input: ProgressInput): PackedReport {
  const { clientKrn, filename, done = 0, warn = 0, failed = 0, total = 0, isLast = false } = input;
  const counts = new MessageWriter().integer(1, done).integer(2, warn).integer(3, failed).finish();
  const request = new MessageWriter()
    .text(1, clientKrn)
    .text(2, filename)
    .message(3, counts)
    .integer(4, total)
    .flag(5, isLast);
  for (const issue of input.errors ?? []) request.message(6, toLineIssue(issue));
  for (const issue of input.warnings ?? []) request.message(7, toLineIssue(issue));
  return new PackedReport(
    request
      .text(8, input.updateId ?? uuidv7())
      .text(9, input.email)
      .finish()
      .slice(),
  );
}

function toLineIssue({ line, message, rawLine }: LineIssueInput): Uint8Array {
  return new MessageWriter().integer(1, line).text(2, message).text(3, rawLine).finish();
}

/** Makes one call: a ReportProgressRequest, and the answer to it. */
export type SendReport = (request: Uint8Array) => Promise<Uint8Array>;

/**
 * Sends reports with a call each, those of one batch together: the server folds them. What completes a file goes after
 * the others of the file, and only when these have arrived.
 *
 * @returns an outcome for each; rejects where none got through
 */
export async function sendReports(
  reports: readonly PackedReport[],
  send: SendReport,
): Promise<SendOutcome[]> {
  const identities = reports.map(({ identity }) => identity);
  const outcomes: (FinalOutcome | PulsewireError)[] = [];
  const unsent = new Set<string>();
  for (const last of [false, true]) {
    await Promise.all(
      identities.map(async ({ clientKrn, filename, isLast }, index) => {
        if (isLast !== last) return;
        const file = `${clientKrn} ${filename}`;
        const { bytes } = reports[index] as PackedReport;
        const outcome = unsent.has(file) ? overtaking : await sendOne(bytes, send);
        if (outcome instanceof PulsewireError && !last) unsent.add(file);
        outcomes[index] = outcome;
      }),
    );
  }
  const errors = outcomes.filter((outcome) => outcome instanceof PulsewireError);
  if (errors[0] && errors.length === outcomes.length) throw errors[0];
  return outcomes.map((outcome) => {
    if (!(outcome instanceof PulsewireError)) return outcome;
    if (!mayBeRetried(outcome)) return droppedBy(outcome);
    const { retryDelayMs } = outcome;
    return { status: "retry", error: outcome, ...(retryDelayMs !== undefined && { delayMs: retryDelayMs }) };
  });
}

/** Its file has reports that did not arrive: it waits for them. */
const overtaking = /* @__PURE__ */ new PulsewireError({
  code: Code.Aborted,
  message: "Reports before it did not arrive.",
});

async function sendOne(request: Uint8Array, send: SendReport) {
  try {
    return readReportResult(await send(request));
  } catch (thrown) {
    const error = asPulsewireError(thrown);
    return refusal(error) ?? error;
  }
}

/** Of a ReportProgressResponse. */
export function readReportResult(response: Uint8Array): FinalOutcome {
  let outcome = accepted;
  readFields(response, (field, value) => {
    if (field === 1 && value.number === duplicateReport) outcome = duplicate;
  });
  return outcome;
}

/** A ReportResult. */
const duplicateReport = 3;

/** What an error says of the report itself; `undefined` where it says nothing. */
function refusal({ code, reason, message, violations }: PulsewireError): FinalOutcome | undefined {
  switch (code) {
    case Code.AlreadyExists:
      return { status: "conflict", code: reason, message };
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.FailedPrecondition:
    case Code.OutOfRange: {
      const [violation] = violations;
      return { status: "rejected", code: reason, message, ...(violation && { field: violation.field }) };
    }
    default:
      return reason === "NOT_CREATOR" ? { status: "rejected", code: reason, message } : undefined;
  }
}
