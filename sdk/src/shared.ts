/** What the entries with clients export. */
export {
  durationFromMs,
  durationMs,
  timestampDate,
  timestampFromDate,
  timestampFromMs,
  timestampMs,
} from "@bufbuild/protobuf/wkt";
export { Code } from "@connectrpc/connect";
export type { PulsewireClient } from "./client.ts";
export { toPulsewireError } from "./connect-errors.ts";
export type { BreakNotice, FollowOptions } from "./follow.ts";
export { follow } from "./follow.ts";
export * from "./gateway-exports.ts";
export * from "./messages.ts";
export { pages } from "./pages.ts";
// Messages have one of this name, too.
export type { RetryPolicy } from "./retry.ts";
