import { Code } from "../code.ts";
import { PulsewireError } from "../errors.ts";
import type { Exchange } from "./exchange.ts";

/** Over fetch. */
export function fetchExchange(baseUrl: string): Exchange {
  return async ({ path, headers, body, signal }) => {
    try {
      const whole = new Uint8Array(body.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const piece of body) {
        whole.set(piece, at);
        at += piece.length;
      }
      const response = await fetch(baseUrl + path, { method: "POST", headers, body: whole, signal });
      return {
        status: response.status,
        headers: response.headers,
        trailers: new Headers(),
        body: new Uint8Array(await response.arrayBuffer()),
      };
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      const words = cause instanceof Error ? cause.message : String(cause);
      const message = `The server cannot be reached, or the connection broke: ${words}`;
      throw new PulsewireError({ code: Code.Unavailable, message, cause });
    }
  };
}
