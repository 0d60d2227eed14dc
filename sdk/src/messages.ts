/** The messages, enums and services of the contract. */
export * from "./proto/auth.ts";
export * from "./proto/common.ts";
export * from "./proto/functions.ts";
export * from "./proto/ingestion.ts";
export * from "./proto/metrics.ts";
export * from "./proto/progress.ts";
export * from "./proto/webhooks.ts";
