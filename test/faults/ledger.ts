import { randomUUID } from "node:crypto";

export type Answer = "accepted" | "duplicate" | "conflict" | "rejected" | "retry";

/** An event that was sent, with every answer that came for it. */
export interface SentEvent {
  readonly eventId: string;
  readonly eventType: string;
  readonly message: string;
  readonly answers: Answer[];
}

/** Events that were sent together in one call. */
export interface SentCall {
  readonly single: boolean;
  readonly events: readonly SentEvent[];
  answered: boolean;
}

/** What was sent in a round and what is known of it. */
export class Ledger {
  readonly eventType: string;
  readonly events = new Map<string, SentEvent>();
  readonly calls: SentCall[] = [];
  readonly violations: string[] = [];

  constructor(eventType: string) {
    this.eventType = eventType;
  }

  /** Notes a call with new events, before it is sent. */
  open(count: number, single = false): SentCall {
    const events = Array.from({ length: count }, (): SentEvent => {
      const eventId = randomUUID();
      return { eventId, eventType: this.eventType, message: `body of ${eventId}`, answers: [] };
    });
    for (const event of events) this.events.set(event.eventId, event);
    return this.openAgain(events, single);
  }

  /** Notes a call with events that were sent before. */
  openAgain(events: readonly SentEvent[], single: boolean): SentCall {
    const call = { single, events, answered: false };
    this.calls.push(call);
    return call;
  }

  /** Notes the answers of a call: one for each event, all the same, and each event accepted at most once. */
  close(call: SentCall, answers: readonly Answer[], knownBefore: readonly boolean[]): void {
    call.answered = true;
    this.expect(
      answers.length === call.events.length,
      `${answers.length} outcomes for ${call.events.length} events`,
    );
    this.expect(
      new Set(answers).size === 1,
      `a call was answered with ${[...new Set(answers)].join(" and ")}`,
    );
    call.events.forEach((event, index) => {
      const answer = answers[index];
      if (answer !== "accepted" && answer !== "duplicate") {
        this.violations.push(`${event.eventId} was answered with ${answer}`);
        return;
      }
      event.answers.push(answer);
      this.expect(
        event.answers.filter((each) => each === "accepted").length <= 1,
        `${event.eventId} was accepted twice`,
      );
      this.expect(
        !knownBefore[index] || answer === "duplicate",
        `${event.eventId} was acknowledged, and accepted when it was sent again`,
      );
    });
  }

  expect(condition: boolean, violation: string): void {
    if (!condition) this.violations.push(violation);
  }

  get acknowledged(): SentEvent[] {
    return [...this.events.values()].filter(({ answers }) => answers.length > 0);
  }

  get unknown(): SentEvent[] {
    return [...this.events.values()].filter(({ answers }) => answers.length === 0);
  }
}

const shownViolations = 10;

/** Prints the closing line of a suite and sets the exit code. */
export function conclude(title: string, ledgers: readonly Ledger[]): void {
  const violations = ledgers.flatMap((ledger) => ledger.violations);
  const events = ledgers.reduce((sum, ledger) => sum + ledger.events.size, 0);
  for (const violation of violations.slice(0, shownViolations)) console.error(`violation: ${violation}`);
  const verdict = violations.length > 0 ? `${violations.length} violations` : "each stored exactly once";
  console.log(`${title}, ${events} events, ${verdict}`);
  if (violations.length > 0 || events === 0) process.exitCode = 1;
}
