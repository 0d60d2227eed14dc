import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { envToConfig } from "../server/src/config/config.ts";
import type { HttpRequest } from "../server/src/listener/http.ts";
import { createClientAddress } from "../server/src/rpc/client-address.ts";
import { addressBlock } from "../server/src/rpc/limit.ts";

describe("the client's address", () => {
  const settings = { trustedProxies: ["10.0.0.0/8", "2001:db8:ffff::/48"] };
  const request = (peer: string, headers: HttpRequest["headers"]) =>
    ({ socket: { remoteAddress: peer }, headers }) as HttpRequest;
  const viaXff = createClientAddress({ ...settings, forwardedHeader: "x-forwarded-for" });
  const viaForwarded = createClientAddress({ ...settings, forwardedHeader: "forwarded" });

  test("is the peer's where nobody is trusted", () => {
    const address = createClientAddress({ trustedProxies: [], forwardedHeader: "x-forwarded-for" });
    assert.equal(address(request("::ffff:192.0.2.1", { "x-forwarded-for": "1.2.3.4" })), "192.0.2.1");
    assert.equal(address(request("2001:db8::1", {})), "2001:db8::1");
    assert.equal(address({ socket: {}, headers: {} } as HttpRequest), "");
  });

  for (const [peer, header, expected] of [
    ["10.0.0.1", undefined, "10.0.0.1"],
    ["10.0.0.1", "", "10.0.0.1"],
    ["10.0.0.1", "192.0.2.1", "192.0.2.1"],
    ["::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"],
    ["10.0.0.1", "198.51.100.1, 192.0.2.1", "192.0.2.1"],
    ["10.0.0.1", "198.51.100.1,192.0.2.1,10.9.9.9", "192.0.2.1"],
    ["10.0.0.1", "10.1.1.1, 10.2.2.2", "10.1.1.1"],
    ["10.0.0.1", "192.0.2.1:4711", "192.0.2.1"],
    ["10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"],
    ["10.0.0.1", "2001:DB8::1", "2001:db8::1"],
    ["10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8:ffff::1", "2001:db8::1", "2001:db8::1"],
    // Nothing that cannot be read is believed, nor what stands before it.
    ["10.0.0.1", "192.0.2.1, unknown", "10.0.0.1"],
    ["10.0.0.1", "192.0.2.1, 10.2.2.2, ", "10.0.0.1"],
    ["10.0.0.1", "192.0.2.1, nonsense, 10.2.2.2", "10.2.2.2"],
    ["10.0.0.1", "999.0.0.1", "10.0.0.1"],
    ["11.0.0.1", "192.0.2.1", "11.0.0.1"],
  ] as const) {
    test(`with x-forwarded-for '${header}' from ${peer} is ${expected}`, () => {
      assert.equal(
        viaXff(request(peer, { "x-forwarded-for": header, forwarded: "for=203.0.113.9" })),
        expected,
      );
    });
  }

  for (const [header, expected] of [
    ["for=192.0.2.1", "192.0.2.1"],
    ["For=192.0.2.1;proto=https;by=10.0.0.1", "192.0.2.1"],
    ['proto=https;for="[2001:db8::1]:4711"', "2001:db8::1"],
    ["for=198.51.100.1, for=192.0.2.1;proto=http, for=10.2.2.2", "192.0.2.1"],
    ["for=192.0.2.1, for=unknown", "10.0.0.1"],
    ["for=192.0.2.1, for=_hidden", "10.0.0.1"],
    ["for=192.0.2.1, by=10.0.0.1", "10.0.0.1"],
    ["notfor=192.0.2.1", "10.0.0.1"],
    // A quotation mark that the client left open hides nothing of what the proxy appended.
    ['for="198.51.100.1, for=192.0.2.1', "192.0.2.1"],
  ] as const) {
    test(`with forwarded '${header}' is ${expected}`, () => {
      const headers = { forwarded: header, "x-forwarded-for": "203.0.113.9" };
      assert.equal(viaForwarded(request("10.0.0.1", headers)), expected);
    });
  }

  test("a list of proxies that cannot be read stops the start", () => {
    for (const list of ["10.0.0.0/33", "proxy.example.org", "10.0.0.0/8;::1"]) {
      assert.throws(() => envToConfig({ PULSEWIRE_TRUSTED_PROXIES: list }), /PULSEWIRE_TRUSTED_PROXIES has/);
    }
    const { trustedProxies } = envToConfig({ PULSEWIRE_TRUSTED_PROXIES: " 10.0.0.0/8, ::1," });
    assert.deepEqual(trustedProxies, ["10.0.0.0/8", "::1"]);
  });

  test("of a network of IPv6 counts as one", () => {
    assert.equal(addressBlock("192.0.2.1"), "192.0.2.1");
    assert.equal(addressBlock("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert.equal(addressBlock("2001:db8:1:2::9"), "2001:db8:1:2::/64");
    assert.equal(addressBlock("2001:0db8:1::9"), "2001:db8:1:0::/64");
    assert.equal(addressBlock("::1"), "0:0:0:0::/64");
    assert.equal(addressBlock("2001:db8::"), "2001:db8:0:0::/64");
  });
});
