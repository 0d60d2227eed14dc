import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A TCP proxy that breaks the line as a test asks. */
export interface Proxy extends AsyncDisposable {
  url: string;
  /** From now on answers are kept back; after the time all connections are cut, and it works again. */
  loseAnswers(ms: number): void;
  /** The connections there are carry nothing any more, in either direction, and stay; new ones work. */
  goSilent(): void;
  /** Connections that were made so far. */
  readonly connections: number;
  /** Refuses connections and cuts those there are. */
  down(): Promise<void>;
  up(): Promise<void>;
}

/** Starts a proxy before a server. */
export async function startProxy(target: string): Promise<Proxy> {
  const { port: targetPort, hostname } = new URL(target);
  const sockets = new Set<Socket>();
  const silent = new WeakSet<Socket>();
  let connections = 0;
  let losing = false;
  let port = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(targetPort), hostname);
    connections++;
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.on("error", () => {});
    }
    client.on("data", (chunk) => {
      if (!silent.has(client)) upstream.write(chunk);
    });
    upstream.on("data", (chunk) => {
      if (!losing && !silent.has(upstream)) client.write(chunk);
    });
  });
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  const up = async () => {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  };
  const down = async () => {
    if (!server.listening) return;
    const closed = once(server, "close");
    server.close();
    cut();
    await closed;
  };
  const loseAnswers = (ms: number) => {
    losing = true;
    setTimeout(() => {
      cut();
      losing = false;
    }, ms);
  };
  const goSilent = () => {
    for (const socket of sockets) silent.add(socket);
  };
  await up();
  return {
    url: `http://127.0.0.1:${port}`,
    loseAnswers,
    goSilent,
    get connections() {
      return connections;
    },
    down,
    up,
    [Symbol.asyncDispose]: down,
  };
}
