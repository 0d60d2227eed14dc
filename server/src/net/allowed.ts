/** Which addresses may be reached for a tenant: not those that only this machine or its network can reach. */
import { lookup as lookUp } from "node:dns";
import { Resolver } from "node:dns/promises";
import { isIP, type LookupFunction } from "node:net";
import { isPublicAddress } from "./addresses.ts";

/** The rules forbid the request; it was not sent. */
export class OutboundForbidden extends Error {
  override name = "OutboundForbidden";
}

/** Finds all IP addresses of a name. Rejects where there are none. */
export type Resolve = (hostname: string) => Promise<string[]>;

/** Names that never lead to the public internet (RFC 6761, RFC 6762, RFC 9476 and custom). */
const privateName = /(^|\.)(localhost|local|internal|intranet|lan|home\.arpa|localdomain)$/;

/**
 * Reads an address that a tenant has named and checks what can be told without a look at the network. IPv4 addresses in
 * decimal, octal, hexadecimal or short form, and IPv4 inside IPv6, are what the parser of URLs makes of them. Throws
 * {@link OutboundForbidden}, also for what is no URL.
 */
export function allowedUrl(address: string, allowPrivate: boolean): URL {
  if (!URL.canParse(address)) throw new OutboundForbidden("the address is no URL");
  const url = new URL(address);
  if (url.username || url.password) throw new OutboundForbidden("an address must not hold a password");
  if (allowPrivate) {
    if (url.protocol === "https:" || url.protocol === "http:") return url;
    throw new OutboundForbidden("only http and https addresses are allowed");
  }
  if (url.protocol !== "https:") throw new OutboundForbidden("only https addresses are allowed");
  const host = hostOf(url);
  const name = host.toLowerCase().replace(/\.+$/, "");
  if (isIP(host) ? !isPublicAddress(host) : privateName.test(name) || !name.includes(".")) {
    throw privateAddress();
  }
  return url;
}

/** The host without the brackets of IPv6. */
export function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, "");
}

export function privateAddress(): OutboundForbidden {
  return new OutboundForbidden("the address leads into a private network");
}

/**
 * For the `lookup` of a connection: finds the addresses of a name and hands over what was checked, so that a name that
 * changes in between leads nowhere else. Refuses a name when any of its addresses is not public.
 */
export function checkedLookup(
  allowPrivate: boolean,
  resolve: Resolve = resolver(allowPrivate),
): LookupFunction {
  return (hostname, { all, family }, callback) => {
    resolve(hostname).then(
      (found) => {
        const addresses = found
          .map((address) => ({ address, family: isIP(address) }))
          .filter((entry) => !family || entry.family === family || `IPv${entry.family}` === family);
        const [first] = addresses;
        if (!first) return callback(noAddress(hostname), "");
        if (!allowPrivate && !addresses.every(({ address }) => isPublicAddress(address)))
          return callback(privateAddress(), "");
        if (all) return callback(null, addresses);
        callback(null, first.address, first.family);
      },
      (error: NodeJS.ErrnoException) => callback(error, ""),
    );
  };
}

/**
 * Asks the name servers without the thread pool, whose few threads a name server that says nothing would block. Where
 * private addresses are allowed, names may also stand in the hosts file, which only the system's own look-up reads.
 */
function resolver(allowPrivate: boolean): Resolve {
  const servers = new Resolver({ timeout: 2_500, tries: 2 });
  return async (hostname) => {
    const answers = await Promise.allSettled([servers.resolve4(hostname), servers.resolve6(hostname)]);
    const found = answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
    if (found.length > 0 || !allowPrivate) return found;
    return await new Promise((done, fail) => {
      lookUp(hostname, { all: true }, (error, addresses) =>
        error ? fail(error) : done(addresses.map(({ address }) => address)),
      );
    });
  };
}

function noAddress(hostname: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${hostname} has no address`), { code: "ENOTFOUND" });
}
