import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { generate } from "selfsigned";
import { DeliveryStatus } from "../server/src/gen/pulsewire/webhooks/v1/delivery_pb.js";
import { WebhooksService } from "../server/src/gen/pulsewire/webhooks/v1/webhooks_service_pb.js";
import { allowedUrl, OutboundForbidden } from "../server/src/net/allowed.ts";
import { OutboundFailed } from "../server/src/net/outbound.ts";
import { createPoster } from "../server/src/net/post.ts";
import { functionEvent, startPost } from "./helpers/deliveries.ts";
import { assertFails } from "./helpers/errors.ts";
import { startReceiver } from "./helpers/receiver.ts";
import { grpcSession, startTestServer, type TestServer } from "./helpers/server.ts";

/** Ways to write addresses that are not of the public internet. */
const inside = [
  "https://127.0.0.1/",
  "https://127.1/",
  "https://2130706433/",
  "https://0x7f000001/",
  "https://0x7f.0.0.1/",
  "https://0177.0.0.1/",
  "https://017700000001/",
  "https://127.0.0.1./",
  "https://0.0.0.0/",
  "https://0/",
  "https://10.1.2.3/",
  "https://172.16.0.1/",
  "https://192.168.1.1:8443/path",
  "https://100.64.0.1/",
  "https://169.254.169.254/latest/meta-data/",
  "https://2852039166/latest/meta-data/",
  "https://0xa9fea9fe/",
  "https://0251.0376.0251.0376/",
  "https://224.0.0.1/",
  "https://255.255.255.255/",
  "https://[::1]/",
  "https://[::]/",
  "https://[0:0:0:0:0:0:0:1]/",
  "https://[::ffff:127.0.0.1]/",
  "https://[::ffff:7f00:1]/",
  "https://[::ffff:169.254.169.254]/",
  "https://[::127.0.0.1]/",
  "https://[64:ff9b::7f00:1]/",
  "https://[2002:7f00:1::]/",
  "https://[2001:0:7f00:1::1]/",
  "https://[fe80::1]/",
  "https://[fc00::1]/",
  "https://[fd00:ec2::254]/",
  "https://[ff02::1]/",
  "https://[2001:db8::1]/",
  "https://localhost/",
  "https://LOCALHOST:8443/",
  "https://localhost./",
  "https://anything.localhost/",
  "https://metadata/",
  "https://metadata.google.internal/computeMetadata/v1/",
  "https://printer.local/",
  "https://１２７.０.０.１/",
  "https://127。0。0。1/",
  "http://receiver.example/",
];

describe("where it can be told", () => {
  let server: TestServer;
  let session: ReturnType<typeof grpcSession>;
  before(async () => {
    server = await startTestServer();
    session = grpcSession(server.url, { "x-api-key": server.tenant.apiKey });
  });
  after(async () => {
    session[Symbol.dispose]();
    await server.stop();
  });

  test("an inside address is refused when a webhook is made and changed", async () => {
    const webhooks = createClient(WebhooksService, session.transport);
    const { webhook } = await webhooks.createWebhook({ url: "https://receiver.example/hook" });
    for (const url of inside) {
      assert.throws(() => allowedUrl(url, false), OutboundForbidden, url);
      const { fields } = await assertFails(
        webhooks.createWebhook({ url }),
        Code.InvalidArgument,
        "INVALID_FIELD",
      );
      assert.deepEqual(fields, ["url"]);
      await assertFails(
        webhooks.updateWebhook({ webhookId: webhook?.id ?? "", url }),
        Code.InvalidArgument,
        "INVALID_FIELD",
      );
    }
    assert.equal((await webhooks.listWebhooks({})).webhooks.length, 1);
  });
});

test("public addresses are allowed", () => {
  for (const url of ["https://1.1.1.1/", "https://[2606:4700::1111]/", "https://a.example:8443/b?c=d"])
    assert.equal(allowedUrl(url, false).href, url);
});

describe("a name", () => {
  test("that leads inside is refused at each attempt, whatever else it leads to; nothing is sent", async () => {
    await using secret = await startSecret();
    const answers = [
      ["127.0.0.1"],
      ["1.1.1.1", "127.0.0.1"],
      ["::ffff:127.0.0.1"],
      ["::1"],
      ["169.254.169.254"],
    ];
    for (const addresses of answers) {
      const poster = createPoster({ allowPrivate: false, resolve: async () => addresses });
      const url = `https://rebind.example:${secret.port}/`;
      const post = { headers: {}, body: "{}", timeoutMs: 2_000 };
      await assert.rejects(poster.post(url, post), OutboundForbidden, addresses.join());
      poster.close();
    }
    assert.equal(secret.connections(), 0);
  });

  test("that changes its answer is refused from then on, and the delivery says so", async () => {
    await using post = await startPost({
      PULSEWIRE_ALLOW_PRIVATE_WEBHOOKS: "off",
      PULSEWIRE_WEBHOOK_TIMEOUT: "1",
    });
    await using secret = await startSecret();
    // Public at first, inside from then on.
    let lookups = 0;
    const resolve = async () => (lookups++ === 0 ? ["1.1.1.1"] : ["127.0.0.1"]);
    await post.webhooks.createWebhook({ url: `https://rebind.example:${secret.port}/`, eventTypes: ["*"] });
    await using _worker = post.start({ resolve });
    await post.emit("function.created", functionEvent());
    const attempts = async () => (await post.webhooks.listDeliveries({})).deliveries[0]?.attemptCount ?? 0;
    await post.settled({ jumpMs: 60_000, until: async () => (await attempts()) >= 3 });
    const { deliveries } = await post.webhooks.listDeliveries({});
    const { delivery } = await post.webhooks.getDelivery({ deliveryId: deliveries[0]?.id ?? "" });
    assert.equal(delivery?.status, DeliveryStatus.RETRYING);
    assert.doesNotMatch(delivery?.attempts[0]?.error ?? "", /private network/);
    assert.match(delivery?.attempts[1]?.error ?? "", /private network/);
    assert.match(delivery?.attempts[2]?.error ?? "", /private network/);
    assert.ok(lookups >= 3);
    assert.equal(secret.connections(), 0);
  });

  test("is looked up once for a connection, which goes to what was checked", async () => {
    await using receiver = await startReceiver();
    let lookups = 0;
    const resolve = async () => {
      lookups++;
      return ["127.0.0.1"];
    };
    const poster = createPoster({ allowPrivate: true, resolve });
    const url = `http://no-such-name.example:${receiver.port}/hook`;
    const post = { headers: {}, body: "{}", timeoutMs: 5_000 };
    assert.equal((await poster.post(url, post)).status, 204);
    assert.equal(lookups, 1);
    assert.equal(receiver.received[0]?.headers.host, `no-such-name.example:${receiver.port}`);
    poster.close();
  });
});

describe("a receiver", () => {
  test("that redirects inside is not followed", async () => {
    await using secret = await startReceiver();
    await using receiver = await startReceiver();
    const poster = createPoster({ allowPrivate: true });
    for (const status of [301, 302, 303, 307, 308]) {
      receiver.behave((_, response) => response.writeHead(status, { location: secret.url }).end());
      const answer = await poster.post(receiver.url, { headers: {}, body: "{}", timeoutMs: 5_000 });
      assert.equal(answer.status, status);
    }
    poster.close();
    assert.equal(secret.received.length, 0);
  });

  test("cannot make us read without end, wait without end, or believe an old connection", async () => {
    await using receiver = await startReceiver();
    const poster = createPoster({ allowPrivate: true });
    const post = { headers: {}, body: "{}", timeoutMs: 1_000 };
    receiver.behave((_, response) => {
      const chunk = Buffer.alloc(65_536, "x");
      const write = () => {
        while (response.write(chunk));
        response.once("drain", write);
      };
      write();
    });
    const endless = await poster.post(receiver.url, post);
    assert.equal(endless.status, 200);
    assert.equal(endless.body.length, 4_096);
    receiver.behave((_, response) => response.write("x"));
    await assert.rejects(poster.post(receiver.url, post), /no answer in time/);
    receiver.behave(() => {});
    await assert.rejects(poster.post(receiver.url, post), OutboundFailed);
    poster.close();
  });

  test("with a certificate of its own making is not believed", async () => {
    const { private: key, cert } = await generate([{ name: "commonName", value: "localhost" }]);
    const server = createSecureServer({ key, cert }, (_, response) => response.end());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const poster = createPoster({ allowPrivate: true });
    const url = `https://localhost:${port}/`;
    await assert.rejects(poster.post(url, { headers: {}, body: "{}", timeoutMs: 5_000 }), OutboundFailed);
    poster.close();
    server.close();
  });
});

/** Something on loopback that nobody is to reach; counts connections. */
async function startSecret() {
  let connections = 0;
  const server = createServer().on("connection", () => connections++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    port,
    connections: () => connections,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
