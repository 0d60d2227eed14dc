/** What the server may call by itself. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { isPublicAddress } from "../server/src/net/addresses.ts";
import { OutboundForbidden } from "../server/src/net/allowed.ts";
import { fetchDocument, OutboundFailed } from "../server/src/net/outbound.ts";

test("addresses are public or they are not", () => {
  for (const address of ["8.8.8.8", "172.15.0.1", "100.63.0.1", "2606:4700::1", "2a00:1450:4001::1"]) {
    assert.equal(isPublicAddress(address), true, address);
  }
  for (const address of [
    ..."0.0.0.0 10.1.1.1 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.168.1.1 198.18.0.1".split(
      " ",
    ),
    ..."224.0.0.1 255.255.255.255 :: ::1 ::ffff:8.8.8.8 64:ff9b::a00:1 fc00::1 fe80::1 ff02::1 2001:db8::1".split(
      " ",
    ),
    ..."2002:a00:1:: 2001::1 example.org".split(" "),
  ]) {
    assert.equal(isPublicAddress(address), false, address);
  }
});

test("a document is fetched within its time and only where the rules allow", async () => {
  const slow = createServer((_request, response) => response.writeHead(200).write("{"));
  await new Promise<void>((done) => slow.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${(slow.address() as AddressInfo).port}`;
  const rules = { allowPrivate: true, maxBytes: 100, timeoutMs: 100 };
  await assert.rejects(
    fetchDocument(url, rules),
    (error) => error instanceof OutboundFailed && /in time/.test(error.message),
  );
  await assert.rejects(fetchDocument("http://user@127.0.0.1", rules), OutboundForbidden);
  await assert.rejects(fetchDocument("ftp://127.0.0.1", rules), OutboundForbidden);
  await assert.rejects(
    fetchDocument("https://localhost", { ...rules, allowPrivate: false }),
    OutboundForbidden,
  );
  slow.closeAllConnections();
  slow.close();
});
