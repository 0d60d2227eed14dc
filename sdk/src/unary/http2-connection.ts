import http2, {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  constants,
  type SecureClientSessionOptions,
} from "node:http2";
import { unref } from "../retry.ts";

/** How a connection is watched. */
export interface WatchOptions {
  /** While it carries a call and nothing comes, or before a call after such a time, it is asked for a sign of life. */
  pingIntervalMs: number;
  /** It is given up when it does not answer, or is not there, within this time. */
  pingTimeoutMs: number;
}

/** An idle connection is closed after this time. */
const idleMs = 15 * 60_000;
/** A connection may end in the moment in which a call is begun on it: then another one is opened, this often at most. */
const maxOpenings = 3;

/** A connection over HTTP/2: opened at the first call, and again when it has ended. Idle it does not hold the process. */
export class Http2Connection {
  readonly #authority: string;
  readonly #options: SecureClientSessionOptions | undefined;
  readonly #watch: WatchOptions;
  #session: Session | undefined;

  constructor(authority: string, watch: WatchOptions, options?: SecureClientSessionOptions) {
    this.#authority = authority;
    this.#watch = watch;
    this.#options = options;
  }

  /** Begins a call. Rejects with what Node says where there is no connection. */
  async request(path: string, headers: Record<string, string>): Promise<ClientHttp2Stream> {
    for (let openings = 1; ; openings++) {
      if (!this.#session?.usable) {
        this.#session = new Session(http2.connect(this.#authority, this.#options), this.#watch);
      }
      const session = this.#session;
      try {
        await session.ready();
        return session.request({ ...headers, ":method": "POST", ":path": path });
      } catch (error) {
        if (session.usable || session.refused || openings === maxOpenings) throw error;
      }
    }
  }

  /** Ends what is running, with this error. */
  close(error: Error): void {
    this.#session?.destroy(error);
  }
}

/** One session, from connect() to its end. */
class Session {
  readonly #client: ClientHttp2Session;
  readonly #watch: WatchOptions;
  readonly #connected: Promise<void>;
  #isConnected = false;
  #calls = 0;
  #aliveAt = performance.now();
  #verifying: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(client: ClientHttp2Session, watch: WatchOptions) {
    this.#client = client;
    this.#watch = watch;
    this.#connected = new Promise((resolve, reject) => {
      const timer = setTimeout(() => client.destroy(silent()), watch.pingTimeoutMs);
      client.once("connect", () => {
        clearTimeout(timer);
        this.#isConnected = true;
        this.#aliveAt = performance.now();
        client.unref();
        resolve();
      });
      // Streams tell of errors, too.
      client.on("error", reject);
      client.on("close", () => {
        clearTimeout(timer);
        clearTimeout(this.#timer);
        reject(silent());
      });
    });
    this.#connected.catch(() => {});
    // What runs may end, but nothing more is begun: Node says so only where there was no error.
    client.on("goaway", () => client.close());
  }

  get usable(): boolean {
    return !this.#client.closed && !this.#client.destroyed;
  }

  /** There never was a connection. */
  get refused(): boolean {
    return !this.#isConnected;
  }

  /** Waits until it is there, and, where nothing came for long, until it has given a sign of life. */
  async ready(): Promise<void> {
    await this.#connected;
    if (this.#calls > 0 || performance.now() - this.#aliveAt <= this.#watch.pingIntervalMs) return;
    this.#verifying ??= this.#ping().finally(() => {
      this.#verifying = undefined;
    });
    await this.#verifying;
  }

  request(headers: Record<string, string>): ClientHttp2Stream {
    const stream = this.#client.request(headers);
    if (this.#calls++ === 0) {
      this.#client.ref();
      this.#wait(this.#watch.pingIntervalMs);
    }
    const alive = () => {
      this.#aliveAt = performance.now();
    };
    stream.on("response", alive);
    stream.on("data", alive);
    stream.once("close", () => {
      if (--this.#calls > 0) return;
      this.#client.unref();
      this.#wait(idleMs);
    });
    return stream;
  }

  destroy(error: Error): void {
    if (!this.#client.destroyed) this.#client.destroy(error, constants.NGHTTP2_CANCEL);
  }

  #wait(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.usable) return;
    this.#timer = setTimeout(() => {
      if (this.#calls === 0) {
        this.#client.close();
        return;
      }
      const silentMs = performance.now() - this.#aliveAt;
      const { pingIntervalMs } = this.#watch;
      if (silentMs < pingIntervalMs) {
        this.#wait(pingIntervalMs - silentMs);
        return;
      }
      this.#ping().then(
        () => this.#wait(pingIntervalMs),
        () => {},
      );
    }, ms);
    unref(this.#timer);
  }

  /** Destroys it where no answer comes. */
  #ping(): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.destroy(silent()), this.#watch.pingTimeoutMs);
      unref(timer);
      this.#client.ping((error) => {
        clearTimeout(timer);
        if (error) {
          reject(error);
          return;
        }
        this.#aliveAt = performance.now();
        resolve();
      });
    });
  }
}

/** As Node's errors of connections, with a code. */
function silent(): Error {
  return Object.assign(new Error("The connection is closed, or does not answer."), { code: "ETIMEDOUT" });
}
