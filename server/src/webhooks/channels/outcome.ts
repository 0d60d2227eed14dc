/** What came of one attempt, whatever the channel. */
import type { ClaimedDelivery } from "../claim.ts";

export interface Outcome {
  readonly accepted: boolean;
  /** Of the answer; 0: there was none. */
  readonly status: number;
  /** Beginning of the answer. */
  readonly body: string;
  /** What went wrong, for a person; empty where it was accepted. */
  readonly error: string;
  /** It will never be accepted: no further attempt. */
  readonly permanent?: boolean;
  /** The receiver wants nothing any more. */
  readonly gone?: boolean;
  /** How long the receiver asks us to wait. */
  readonly retryAfterMs?: number | undefined;
}

/** Tries one delivery. Rejects only when the signal ends it. */
export type Deliver = (delivery: ClaimedDelivery, signal: AbortSignal) => Promise<Outcome>;

/** Most bytes of an answer that are kept. */
const maxBodyBytes = 4_096;

/** The beginning of an answer as text that the database takes. */
export function excerpt(body: Buffer | string): string {
  const text = Buffer.from(Buffer.from(body).subarray(0, maxBodyBytes).toString().replaceAll("\0", "\uFFFD"));
  // What is replaced takes three bytes. Not cut within a character.
  let end = Math.min(text.length, maxBodyBytes);
  while (end < text.length && ((text[end] ?? 0) & 0xc0) === 0x80) end--;
  return text.subarray(0, end).toString();
}
