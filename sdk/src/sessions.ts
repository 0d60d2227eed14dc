import type { ClientHttp2Stream } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { Http2SessionManager } from "@connectrpc/connect-node";

/**
 * One HTTP/2 connection. A stream that ends without an answer is an error at once, also where the server named none:
 * Connect leaves such a call waiting until its deadline, and a stream, which has none, for ever.
 */
export class Sessions extends Http2SessionManager {
  override async request(...request: Parameters<Http2SessionManager["request"]>): Promise<ClientHttp2Stream> {
    const stream = await super.request(...request);
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
}
