export type { CloseOnExitOptions } from "./exit-hooks.ts";
export { createClient } from "./node.ts";
export { createGateway, type NodeGatewayOptions } from "./node-gateway.ts";
export type { NodeClientOptions } from "./node-options.ts";
export * from "./shared.ts";
export type { SyncPolicy } from "./spool/lane-options.ts";
export { SpoolLockedError } from "./spool/lock.ts";
export type { SpoolOptions } from "./spool/spool.ts";
