import { BlockList, isIP } from "node:net";

/** What is not the public internet: this machine, private and link-local networks, documentation, multicast. */
const notPublicV4: readonly [string, number][] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.88.99.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
];
/** Parts of 2000::/3 that lead elsewhere: Teredo and its kin, documentation, 6to4. */
const notPublicV6: readonly [string, number][] = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
];

const blocked = new BlockList();
for (const [network, prefix] of notPublicV4) blocked.addSubnet(network, prefix, "ipv4");
for (const [network, prefix] of notPublicV6) blocked.addSubnet(network, prefix, "ipv6");
const globalV6 = new BlockList();
globalV6.addSubnet("2000::", 3, "ipv6");

/** Whether an IP address belongs to the public internet. Of IPv6 only what is given out for it, 2000::/3, does. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !blocked.check(address, "ipv4");
    case 6:
      return globalV6.check(address, "ipv6") && !blocked.check(address, "ipv6");
    default:
      return false;
  }
}
