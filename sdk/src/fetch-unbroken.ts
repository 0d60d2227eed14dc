import { Code, ConnectError } from "@connectrpc/connect";

/**
 * fetch(), but a connection that fails or breaks is UNAVAILABLE, as it is with gRPC, and not some error whose name and
 * words differ from browser to browser.
 *
 * @param closed ends it, too
 */
export async function fetchUnbroken(
  input: RequestInfo | URL,
  init: RequestInit | undefined,
  closed: AbortSignal,
): Promise<Response> {
  const signal = init?.signal ? AbortSignal.any([init.signal, closed]) : closed;
  const explain = (error: unknown) => {
    if (signal.aborted) return error;
    const words = error instanceof Error ? error.message : String(error);
    const message = `The server cannot be reached, or the connection broke: ${words}`;
    return new ConnectError(message, Code.Unavailable, undefined, undefined, error);
  };
  const response = await fetch(input, { ...init, signal }).catch((error: unknown) => {
    throw explain(error);
  });
  const { status, statusText, headers } = response;
  return new Response(response.body && explained(response.body, explain), { status, statusText, headers });
}

/** The same bytes, with other words when they break off. */
function explained(body: ReadableStream<Uint8Array<ArrayBuffer>>, explain: (error: unknown) => unknown) {
  const reader = body.getReader();
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      } catch (error) {
        controller.error(explain(error));
      }
    },
    cancel: (reason) => reader.cancel(reason),
  });
}
