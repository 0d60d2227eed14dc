import type { ClientHttp2Stream, Http2Session } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";

/**
 * One HTTP/2 connection. A stream that ends without an answer is an error at once, also where the server named none:
 * Connect leaves such a call waiting until its deadline, and a stream, which has none, for ever.
 */
export class Sessions extends Http2SessionManager {
  readonly #guarded = new WeakSet<Http2Session>();

  override async request(...request: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...request);
    if (stream.session) this.#guard(stream.session);
    let answered = false;
    stream.once("response", () => {
      answered = true;
    });
    stream.once("close", () => {
      if (!answered)
        stream.emit("error", new ConnectError("The stream ended without an answer.", Code.Unavailable));
    });
    return stream;
  }

  /** Connect stops listening to a session that it finds destroyed, before Node has told its error: untold, it would end the process. */
  #guard(session: Http2Session): void {
    if (this.#guarded.has(session)) return;
    this.#guarded.add(session);
    session.on("error", () => {});
  }
}
