import { create, fromBinary, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { Place } from "./backlog.ts";
import { PulsewireError, toPulsewireError } from "./errors.ts";
import {
  type ReportProgressRequest,
  ReportProgressRequestSchema,
  type ReportProgressResponse,
  ReportResult,
} from "./gen/pulsewire/progress/v1/progress_pb.js";
import { accepted, droppedBy, duplicate, type FinalOutcome, type SendOutcome } from "./outcome.ts";
import type { Item } from "./queue.ts";
import { shouldRetry } from "./retry.ts";
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

  /** The request that it is sent with. */
  get request(): ReportProgressRequest {
    return fromBinary(ReportProgressRequestSchema, this.bytes);
  }
}

/**
 * Encodes a report.
 *
 * @throws TypeError or RangeError where a field has the wrong type
 */
export function packReport(input: ProgressInput): PackedReport {
  const { done = 0, warn = 0, failed = 0, total = 0, errors = [], warnings = [], ...rest } = input;
  const request = create(ReportProgressRequestSchema, {
    ...rest,
    updateId: input.updateId ?? uuidv7(),
    counts: { done: BigInt(done), warn: BigInt(warn), failed: BigInt(failed) },
    total: BigInt(total),
    errors: errors.map(toLineIssue),
    warnings: warnings.map(toLineIssue),
  });
  return new PackedReport(toBinary(ReportProgressRequestSchema, request));
}

function toLineIssue({ line, ...rest }: LineIssueInput) {
  return { ...rest, line: BigInt(line) };
}

/** Makes one call. */
export type SendReport = (
  request: MessageInitShape<typeof ReportProgressRequestSchema>,
) => Promise<ReportProgressResponse>;

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
  const requests = reports.map(({ request }) => request);
  const outcomes: (FinalOutcome | PulsewireError)[] = [];
  const unsent = new Set<string>();
  for (const last of [false, true]) {
    await Promise.all(
      requests.map(async (request, index) => {
        if (request.isLast !== last) return;
        const file = `${request.clientKrn} ${request.filename}`;
        const outcome = unsent.has(file) ? overtaking : await sendOne(request, send);
        if (outcome instanceof PulsewireError && !last) unsent.add(file);
        outcomes[index] = outcome;
      }),
    );
  }
  const errors = outcomes.filter((outcome) => outcome instanceof PulsewireError);
  if (errors[0] && errors.length === outcomes.length) throw errors[0];
  return outcomes.map((outcome) => {
    if (!(outcome instanceof PulsewireError)) return outcome;
    if (!shouldRetry(outcome, { idempotent: true })) return droppedBy(outcome);
    const { retryDelayMs } = outcome;
    return { status: "retry", error: outcome, ...(retryDelayMs !== undefined && { delayMs: retryDelayMs }) };
  });
}

/** Its file has reports that did not arrive: it waits for them. */
const overtaking = /* @__PURE__ */ new PulsewireError({
  code: Code.Aborted,
  message: "Reports before it did not arrive.",
});

async function sendOne(request: ReportProgressRequest, send: SendReport) {
  try {
    const { result } = await send(request);
    return result === ReportResult.DUPLICATE ? duplicate : accepted;
  } catch (thrown) {
    const error = toPulsewireError(thrown);
    return refusal(error) ?? error;
  }
}

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
