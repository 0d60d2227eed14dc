/** The gateway alone, over fetch: neither Connect nor Protobuf is loaded. */
export { Code } from "./code.ts";
export * from "./gateway-exports.ts";
export { createGateway, type WebClientOptions } from "./web-gateway.ts";
