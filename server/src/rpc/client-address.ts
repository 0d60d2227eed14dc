import { isIP } from "node:net";
import { createContextKey } from "@connectrpc/connect";
import type { Peer } from "../listener/lean/path.ts";
import { addressRanges } from "./address-ranges.ts";

/** The address that the call came from. */
export const clientAddressKey = createContextKey("", { description: "client address" });

/** The header in which trusted proxies say where a call came from. */
export type ForwardedHeader = "x-forwarded-for" | "forwarded";

/** Whom to believe about where a call came from. */
export interface ProxySettings {
  /** Addresses and prefixes of proxies; empty: nobody is believed. */
  readonly trustedProxies: readonly string[];
  /** The one header that they all write. The other is whatever the client sent, and is not looked at. */
  readonly forwardedHeader: ForwardedHeader;
}

/**
 * Makes the function that finds a call's client: the peer, or, where that is a trusted proxy, whom it named. The header
 * is read from the right, as each proxy appends its own peer, and only as far as the hops are trusted: what stands
 * further left may be the client's invention.
 */
export function createClientAddress(settings: ProxySettings): (req: Peer) => string {
  const { trustedProxies, forwardedHeader } = settings;
  if (trustedProxies.length === 0) return (req) => plain(req.socket.remoteAddress);
  const trusted = addressRanges(trustedProxies);
  const parseHop = forwardedHeader === "forwarded" ? addressOfElement : addressOfHop;
  return (req) => {
    let address = plain(req.socket.remoteAddress);
    if (!trusted.has(address)) return address;
    const header = req.headers[forwardedHeader];
    const hops = (Array.isArray(header) ? header.join() : (header ?? "")).split(",");
    while (trusted.has(address)) {
      const hop = hops.pop();
      const before = hop && parseHop(hop.trim());
      if (!before) return address;
      address = before;
    }
    return address;
  };
}

/** An address without the prefix of IPv4 on an IPv6 socket and without a zone. */
function plain(address = ""): string {
  if (!address.includes(":")) return address;
  return address.replace(/^::ffff:(?=\d+\.)/i, "").replace(/%.*$/, "");
}

/** `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:4711`. */
function addressOfHop(text: string): string | undefined {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? /^([\d.]+):\d+$/.exec(text)?.[1] ?? text;
  const address = plain(bare).toLowerCase();
  return isIP(address) ? address : undefined;
}

/** An element of `Forwarded` (RFC 7239), such as `for="[2001:db8::1]:4711";proto=https`; `unknown` is no address. */
function addressOfElement(element: string): string | undefined {
  const value = /(?:^|;)\s*for=("?)([^";,]+)\1\s*(?:;|$)/i.exec(element)?.[2];
  return value && addressOfHop(value);
}
