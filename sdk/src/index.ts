export type { CloseOnExitOptions } from "./exit-hooks.ts";
export { createClient, createGateway, type NodeClientOptions, type NodeGatewayOptions } from "./node.ts";
export * from "./shared.ts";
export type { SyncPolicy } from "./spool/lane-options.ts";
export { SpoolLockedError } from "./spool/lock.ts";
export type { SpoolOptions } from "./spool/spool.ts";
