import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { Failure } from "./failure.ts";

/** The line between this machine's gateway and the server, which can be cut. */
export interface Line extends AsyncDisposable {
  /** Where the gateway finds the server. */
  endpoint: string;
  /** Ends all connections and takes no new ones. */
  cut(): Promise<void>;
  /** Takes connections again. */
  mend(): Promise<void>;
}

/** Lays a line to a server: a port of this machine whose connections go there. */
export async function layLine(endpoint: string): Promise<Line> {
  const { protocol, hostname, port } = new URL(endpoint);
  if (protocol !== "http:")
    throw new Failure("An outage can be shown with a server that speaks http:// only.");
  const sockets = new Set<Socket>();
  let server: Server | undefined;
  let ownPort = 0;
  const join = (client: Socket) => {
    const upstream = connect(Number(port || 80), hostname);
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
      // A line that breaks is what this is for; who uses it hears of it.
      from.on("error", () => {});
      from.pipe(to);
    }
  };
  const mend = async () => {
    if (server) return;
    server = createServer(join).listen(ownPort, "127.0.0.1");
    await once(server, "listening");
    ownPort = (server.address() as AddressInfo).port;
  };
  const cut = async () => {
    const listening = server;
    server = undefined;
    if (!listening) return;
    const closed = once(listening, "close");
    listening.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  };
  await mend();
  return { endpoint: `http://127.0.0.1:${ownPort}`, cut, mend, [Symbol.asyncDispose]: cut };
}
