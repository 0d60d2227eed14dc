/** The gateway alone, for Node: neither Connect nor Protobuf is loaded. */
export { Code } from "./code.ts";
export type { CloseOnExitOptions } from "./exit-hooks.ts";
export * from "./gateway-exports.ts";
export { createGateway, type NodeGatewayOptions } from "./node-gateway.ts";
export type { NodeClientOptions } from "./node-options.ts";
export type { SyncPolicy } from "./spool/lane-options.ts";
export { SpoolLockedError } from "./spool/lock.ts";
export type { SpoolOptions } from "./spool/spool.ts";
