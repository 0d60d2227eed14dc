import type { Held } from "../held.ts";
import type { AnswerFields } from "./fields.ts";

/** What a call is told of the connection that it came on. */
export interface WireEvents {
  receive(chunk: Buffer): void;
  receivedAll(): void;
  /** The transport is closed: nothing can be answered any more. */
  closed(reason: unknown): void;
  /** Read when an answer with trailers ends. */
  readonly responseTrailer: AnswerFields;
}

/** A request and its answer on HTTP/1.1 or HTTP/2. */
export interface Wire {
  readonly encrypted: boolean;
  /** Whether nobody waits for the answer any more. */
  readonly gone: boolean;
  /** Whether a part of the answer is on its way. */
  readonly answering: boolean;
  /** Bytes that the peer has not taken yet. */
  readonly waitingBytes: number;
  /** Begins to read. */
  listen(call: WireEvents): void;
  /** Leaves the request to connect-node, or to another who answers it. */
  giveUp(held: Held): void;
  /** Closes the connection after the answer, where it serves one call after the other. */
  closeAfter(): void;
  cutOff(): void;
  /** Answers with a whole body; trailers stand among the header fields. */
  answerWhole(
    status: number,
    header: AnswerFields,
    trailer: AnswerFields,
    body: string | Uint8Array,
    length: number,
  ): void;
  /** Begins an answer that is written piece by piece; on HTTP/2 the trailers of the call follow it where they are wanted. */
  begin(header: AnswerFields, withTrailers: boolean): void;
  /** Writes a piece; false when the peer is behind. */
  write(piece: Uint8Array): boolean;
  /** Calls `listener` once, when the peer has caught up. */
  onDrain(listener: () => void): void;
  /** Ends the answer, with a last piece. */
  end(piece?: Uint8Array): void;
}
