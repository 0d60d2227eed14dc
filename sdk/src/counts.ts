/** What became of events or samples so far. `queued` is exactly the sum of all the others but `retried`. */
export interface DeliveryCounts {
  /** Taken by the gateway, or found in its spool when it began. */
  queued: number;
  /** Committed by the server. */
  accepted: number;
  /** There already, with the same id and body. */
  duplicate: number;
  /** Refused: the id is there with another body. */
  conflict: number;
  /** Refused: breaks a rule. */
  rejected: number;
  /** Given up here, by reason; see {@link DropReason}. */
  dropped: Record<string, number>;
  /** Waiting, being sent, or to be sent again, and in memory only. */
  pending: number;
  /** The same, but written into the spool: what is still there after close() is sent by the next gateway. */
  persisted: number;
  /** Times that an item was sent again. */
  retried: number;
}

/**
 * Why an item was given up: `queue_full` (a policy of dropping), `closed` (close() came to its deadline), `attempts`
 * (sent as often as the policy allows), `spool_full`, `spool_expired`, `spool_damaged` and `spool_missing` (too much or
 * too old for the spool, broken on its disk, or its file removed), `set_aside` (it failed for no known reason again and again
 * while others got through, and lies in the spool's directory `aside`), or the reason or code of an error that no repetition makes right, such as
 * `INVALID_API_KEY`.
 */
export type DropReason = string;

/** Counts of a gateway: of all kinds together, and each for itself. */
export interface GatewayCounts extends DeliveryCounts {
  /** Of events. */
  events: DeliveryCounts;
  /** Of samples. */
  samples: DeliveryCounts;
  /** Of reports of progress. */
  progress: DeliveryCounts;
}

/** Counts with nothing in them. */
export function noCounts(): DeliveryCounts {
  return {
    queued: 0,
    accepted: 0,
    duplicate: 0,
    conflict: 0,
    rejected: 0,
    dropped: {},
    pending: 0,
    persisted: 0,
    retried: 0,
  };
}

/** Adds counts up. */
export function sumCounts(...all: DeliveryCounts[]): DeliveryCounts {
  const sum = noCounts();
  for (const { dropped, ...numbers } of all) {
    for (const key of Object.keys(numbers) as (keyof typeof numbers)[]) sum[key] += numbers[key];
    for (const [reason, count] of Object.entries(dropped)) {
      sum.dropped[reason] = (sum.dropped[reason] ?? 0) + count;
    }
  }
  return sum;
}
