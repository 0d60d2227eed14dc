/** What is sent: the same fields to every library, about 200 bytes however they are written. */
export interface BenchEvent {
  readonly type: string;
  readonly user: string;
  readonly session: string;
  readonly payload: {
    /** Occurs nowhere else in what is sent: by it the sink tells events apart in any protocol. */
    readonly mark: string;
    readonly store: string;
    readonly method: string;
    readonly amount: number;
    readonly items: number;
  };
}

/** How every mark begins; seven digits follow. */
export const markPrefix = "evt_";
export const markDigits = 7;

export function benchEvent(index: number): BenchEvent {
  return {
    type: "sale_completed",
    user: `user-${index % 5000}`,
    session: `session-${index % 20_000}`,
    payload: {
      mark: markPrefix + String(index).padStart(markDigits, "0"),
      store: `store-${index % 400}`,
      method: "card",
      amount: (index % 10_000) / 100,
      items: (index % 9) + 1,
    },
  };
}
