import type { Lane } from "./lane.ts";
import type { Segment } from "./segment.ts";

/** Where a record is kept. */
export class Ticket {
  readonly sequence: number;
  /** None where it could not be written. */
  segment: Segment | undefined;
  readonly #lane: Lane;

  constructor(lane: Lane, sequence: number, segment: Segment) {
    this.#lane = lane;
    this.sequence = sequence;
    this.segment = segment;
  }

  /** Whether it is written; what is buffered is written now. */
  get kept(): boolean {
    this.#lane.write();
    return this.segment !== undefined && !this.segment.gone;
  }

  /** The record is done with, and never read again. */
  settle(): void {
    this.#lane.settle(this);
  }
}
