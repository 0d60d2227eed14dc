import { STATUS_CODES } from "node:http";
import type { Duplex } from "node:stream";

/** Errors of Node's parser for which HTTP has a status of its own (RFC 6585, RFC 9110). */
const statuses: Readonly<Record<string, readonly [status: number, detail: string]>> = {
  HPE_HEADER_OVERFLOW: [
    431,
    "the request line and the headers together are too large; send less, or in the body",
  ],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "the extensions of a chunk are too large"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "the headers did not arrive in time"],
};

/** Answers what Node could not read as a request of HTTP/1.1, as a problem of RFC 9457, and closes the connection. */
export function refuseUnreadable(error: NodeJS.ErrnoException, socket: Duplex): void {
  const answering = (socket as { _httpMessage?: { headersSent: boolean } })._httpMessage?.headersSent;
  if (error.code === "ECONNRESET" || !socket.writable || answering) {
    socket.destroy();
    return;
  }
  const [status, detail] = statuses[error.code ?? ""] ?? [400, "this is no request of HTTP/1.1 or HTTP/2"];
  const title = STATUS_CODES[status] ?? "";
  const body = JSON.stringify({ type: "about:blank", title, status, detail });
  socket.end(
    `HTTP/1.1 ${status} ${title}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
