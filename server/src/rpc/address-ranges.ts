import { BlockList, isIP } from "node:net";

/** Reads an address or prefix such as `192.0.2.0/24`; undefined where it is neither. */
function parsePrefix(text: string): { network: string; length: number; family: "ipv4" | "ipv6" } | undefined {
  const [network = "", length, ...rest] = text.split("/");
  const version = isIP(network);
  if (version === 0 || rest.length > 0 || (length !== undefined && !/^\d{1,3}$/.test(length)))
    return undefined;
  const bits = version === 4 ? 32 : 128;
  const wanted = length === undefined ? bits : Number(length);
  return wanted <= bits ? { network, length: wanted, family: version === 4 ? "ipv4" : "ipv6" } : undefined;
}

/** Whether the text is an address or a prefix. */
export function isAddressRange(text: string): boolean {
  return parsePrefix(text) !== undefined;
}

/** Addresses that lie in a list of addresses and prefixes. */
export interface AddressRanges {
  has(address: string): boolean;
  /** Whether all addresses of the other prefix lie in one of these. */
  covers(range: string): boolean;
}

/** Reads a list of addresses and prefixes. What is neither contains nothing. */
export function addressRanges(ranges: readonly string[]): AddressRanges {
  const all = new BlockList();
  const prefixes = ranges.flatMap((text) => parsePrefix(text) ?? []);
  for (const { network, length, family } of prefixes) all.addSubnet(network, length, family);
  return {
    has(address) {
      const version = isIP(address);
      return version !== 0 && all.check(address, version === 4 ? "ipv4" : "ipv6");
    },
    covers(range) {
      const inner = parsePrefix(range);
      if (!inner) return false;
      return prefixes.some(({ network, length, family }) => {
        if (family !== inner.family || length > inner.length) return false;
        const outer = new BlockList();
        outer.addSubnet(network, length, family);
        return outer.check(inner.network, family);
      });
    },
  };
}
