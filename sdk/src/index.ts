export { createClient, createGateway, type NodeClientOptions } from "./node.ts";
export * from "./shared.ts";
