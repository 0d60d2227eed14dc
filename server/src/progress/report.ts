import { hash } from "node:crypto";
import { uuidFromHash } from "../db/uuid.ts";
import type { ReportProgressRequest } from "../gen/pulsewire/progress/v1/progress_pb.js";

/** Who made a file, and alone may report on it: a person's address, or an API key that reports for nobody. */
export interface Creator {
  /** In lower case; empty: the API key. */
  readonly email: string;
  readonly apiKeyId: string | null;
}

/** A report on its way into the tables. */
export interface Report {
  readonly request: ReportProgressRequest;
  readonly creator: Creator;
  /** Names the file in the tenant. */
  readonly file: string;
  /** What makes it recognisable when it comes again; undefined: nothing. */
  readonly identity: ReportIdentity | undefined;
}

export interface ReportIdentity {
  /** A hash of the update id. */
  readonly key: string;
  /** 16 bytes that differ when the report does, as Latin-1. */
  readonly digest: string;
}

/** A valid request as a report. `updateId` is the sender's, or what a connector made of the message's position. */
export function reportOf(request: ReportProgressRequest, creator: Creator, updateId: string): Report {
  return {
    request,
    creator,
    file: fileName(request.clientKrn, request.filename),
    identity: updateId ? { key: uuidFromHash(updateId), digest: digestOf(request) } : undefined,
  };
}

/** Client and file in one text; a KRN has no space. */
function fileName(clientKrn: string, filename: string): string {
  return `${clientKrn} ${filename}`;
}

/** The key of a file in the tables. */
export function fileKey(clientKrn: string, filename: string): string {
  return uuidFromHash(fileName(clientKrn, filename));
}

/** Of what is counted; not of who sent it, who may come by another way the second time. */
function digestOf({ counts, total, isLast, errors, warnings }: ReportProgressRequest): string {
  const issues = [errors, warnings].map((list) =>
    list.map(({ line, message, rawLine }) => [String(line), message, rawLine]),
  );
  const sums = [counts?.done, counts?.warn, counts?.failed, total].map((value) => String(value ?? 0n));
  return hash("sha256", JSON.stringify([sums, isLast, issues]), "binary").slice(0, 16);
}
