import type { Place } from "../backlog.ts";
import type { Segment } from "./segment.ts";

/** What a ticket asks of its lane. */
export interface TicketOwner {
  write(): void;
  settle(ticket: Ticket): void;
}

/** Where a record is kept. */
export class Ticket implements Place {
  readonly sequence: number;
  /** None where it could not be written. */
  segment: Segment | undefined;
  /** A copy is in memory. */
  readonly held: boolean;
  readonly #lane: TicketOwner;

  constructor(lane: TicketOwner, sequence: number, segment: Segment, held: boolean) {
    this.#lane = lane;
    this.sequence = sequence;
    this.segment = segment;
    this.held = held;
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
