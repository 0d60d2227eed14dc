import { createContextKey } from "@connectrpc/connect";
import type { HttpRequest } from "../listener/http.ts";

/** The address that the call came from. */
export const clientAddressKey = createContextKey("", { description: "client address" });

/** The address of the peer, without the prefix of an IPv4 address on an IPv6 socket. */
export function clientAddress(req: HttpRequest): string {
  return (req.socket.remoteAddress ?? "").replace(/^::ffff:(?=\d+\.)/, "");
}
