import type { ListenerLimits } from "../limits.ts";
import { ConnectionFault, errorCode } from "./frames.ts";
import { createTokens } from "./tokens.ts";

/** Answers to frames of the peer, such as acknowledgements, that may wait until the peer takes them. */
const maxWaitingReplies = 1_000;

/** What is borne of a peer that makes us work for nothing. Each throws a fault when it is too much. */
export class Patience {
  readonly #maxInvalid: number;
  readonly #mayReset: () => boolean;
  #invalid = 0;
  #replies = 0;

  constructor({
    maxInvalidFrames,
    maxRapidResets,
    rapidResetsPerSecond,
  }: Pick<ListenerLimits, "maxInvalidFrames" | "maxRapidResets" | "rapidResetsPerSecond">) {
    this.#maxInvalid = maxInvalidFrames;
    this.#mayReset = createTokens(maxRapidResets, rapidResetsPerSecond);
  }

  /** A stream is reset, by the peer or because of what it sent. */
  reset(): void {
    if (!this.#mayReset()) throw tooMuch("too many streams are reset");
  }

  /** A frame breaks the rules of its stream. */
  invalid(): void {
    if (++this.#invalid > this.#maxInvalid) throw tooMuch("too many frames are invalid");
  }

  /** A frame is answered. False: the peer, which is behind, takes none of the answers. */
  reply(isBehind: boolean): boolean {
    this.#replies = isBehind ? this.#replies + 1 : 0;
    return this.#replies <= maxWaitingReplies;
  }

  /** The peer has taken what there was. */
  drained(): void {
    this.#replies = 0;
  }
}

const tooMuch = (message: string) => new ConnectionFault(errorCode.enhanceYourCalm, message);
