import type { PulsewireError } from "./errors.ts";
import type { FinalOutcome } from "./outcome.ts";

/** Where items are kept besides memory, so that they outlive the process: on Node the spool. */
export interface Backlog<T> {
  /** The highest sequence of what was there when it was opened, 0 where nothing was. */
  readonly last: number;
  /** Items of which no copy is in memory. */
  readonly unread: number;
  /** Items that are written and not settled. */
  readonly persisted: number;
  /** Says whom to tell. Called once, before anything else. */
  listen(listener: BacklogListener<T>): void;
  /** Whether items that go as early as this one are unread: then a new one has to stand behind them. */
  hasUnread(item: T): boolean;
  /**
   * Keeps a copy of an item, under its sequence, and sets its place.
   *
   * @param held the caller has a copy: it is not to be read
   * @returns false while it cannot be kept, such as with a full disk
   */
  append(item: T, held: boolean): boolean;
  /**
   * Keeps a copy of an item, that could not be sent because of this error, where it is not read again by itself.
   *
   * @returns what became of it, for the gateway does nothing more about it; `undefined` where it cannot be kept
   */
  setAside(item: T, error: PulsewireError): FinalOutcome | undefined;
  /** Tells of the next unread items, urgent ones first, with sequence and place. Returns how many; 0 where none is left. */
  read(onItem: (item: T) => void): number;
}

/** What a backlog tells. Nothing may throw. */
export interface BacklogListener<T> {
  /** Unread items are lost, whose sequences are in this range. */
  onLost(count: number, reason: string, first: number, last: number): void;
  /** An unread item could not be kept after all. */
  onUnwritten(item: T): void;
}

/** Where items are kept. */
export interface Place {
  /** Whether the item with this sequence is written. */
  keeps(sequence: number): boolean;
  /** The item with this sequence is done with, and not to be kept any longer. */
  settle(sequence: number): void;
}
