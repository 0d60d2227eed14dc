import { type Timestamp, timestampMs } from "@bufbuild/protobuf/wkt";

/** Below this the difference is the network's, not the clock's. */
const toleranceMs = 5_000;

/**
 * What to add to a sender's times: the server's clock minus the time at which the sender says it sends. Whole seconds,
 * so that a batch that is sent again is corrected the same way; 0 where the clocks agree or the sender says nothing.
 */
export function clockSkewMs(sentAt: Timestamp | undefined, receivedAt: Date): number {
  if (!sentAt) return 0;
  const skew = receivedAt.getTime() - timestampMs(sentAt);
  return Math.abs(skew) < toleranceMs ? 0 : Math.round(skew / 1_000) * 1_000;
}
