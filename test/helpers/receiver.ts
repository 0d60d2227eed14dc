import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Webhook } from "standardwebhooks";

/** A request as it arrived. */
export interface Received {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly atMs: number;
}

/** What a receiver answers: a status, or whatever it does with the response. */
export type Behaviour = number | ((received: Received, response: ServerResponse) => void);

export interface Receiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly received: readonly Received[];
  /** What it answers from now on; 204 at first. */
  behave(behaviour: Behaviour): void;
  /** Resolves once so many requests have arrived. */
  has(count: number): Promise<readonly Received[]>;
}

const patienceMs = 20_000;

/** A receiver of webhooks on loopback. */
export async function startReceiver(port = 0): Promise<Receiver> {
  const received: Received[] = [];
  const arrivals = new EventTarget();
  let behaviour: Behaviour = 204;
  const server = createServer((request, response) => {
    text(request).then(
      (body) => {
        const one = { path: request.url ?? "", headers: request.headers, body, atMs: performance.now() };
        received.push(one);
        if (typeof behaviour === "number") response.writeHead(behaviour).end();
        else behaviour(one, response);
        arrivals.dispatchEvent(new Event("request"));
      },
      () => response.destroy(),
    );
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const { port: bound } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${bound}/hook`,
    port: bound,
    received,
    behave(next) {
      behaviour = next;
    },
    async has(count) {
      const signal = AbortSignal.timeout(patienceMs);
      while (received.length < count) {
        await once(arrivals, "request", { signal }).catch(() => {
          throw new Error(`${received.length} requests of ${count} in ${patienceMs} ms`);
        });
      }
      return received;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** The message, once its signature is found right by the library that receivers use. */
export function verified(secret: string, { headers, body }: Received) {
  return new Webhook(secret).verify(body, headers as Record<string, string>) as {
    type: string;
    timestamp: string;
    data: Record<string, unknown>;
  };
}
