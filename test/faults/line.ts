import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** A TCP line to a server that may move, and that is cut, slow or loses what comes back. */
export class Line implements AsyncDisposable {
  /** Where it leads to. */
  target = "";
  /** Milliseconds that each piece of 4 KiB takes, each way; 0 for none. */
  slowMs = 0;
  /** What the server says gets lost. */
  losing = false;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((client) => this.#open(client));

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#server, "close");
    this.#server.close();
    this.cut();
    await closed;
  }

  #open(client: Socket): void {
    const server = connect(Number(new URL(this.target).port), "127.0.0.1");
    void this.#carry(client, server, () => true);
    void this.#carry(server, client, () => !this.losing);
  }

  async #carry(from: Socket, to: Socket, arrives: () => boolean): Promise<void> {
    this.#sockets.add(from);
    from.on("close", () => {
      this.#sockets.delete(from);
      to.destroy();
    });
    try {
      for await (const chunk of from) {
        if (this.slowMs > 0) await sleep(this.slowMs * Math.ceil(chunk.length / 4096));
        if (arrives()) to.write(chunk);
      }
    } catch {
      // It was cut, which is what this is for.
    }
  }
}
