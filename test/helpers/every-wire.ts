/** Unary calls in bytes on gRPC, gRPC-Web, Connect and JSON. */
import { once } from "node:events";
import * as http2 from "node:http2";
import { ConnectError } from "@connectrpc/connect";
import { encodeEnvelope } from "@connectrpc/connect/protocol";
import { errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { findTrailerError } from "@connectrpc/connect/protocol-grpc";
import { trailerFlag, trailerParse } from "@connectrpc/connect/protocol-grpc-web";

const contentTypes = {
  gRPC: "application/grpc+proto",
  "gRPC-Web": "application/grpc-web+proto",
  Connect: "application/proto",
  JSON: "application/json",
};
/** A way to say a unary call. */
export type Wire = keyof typeof contentTypes;
export const wires = Object.keys(contentTypes) as Wire[];

/** What came back. */
export interface Answer {
  status: number;
  error: ConnectError | undefined;
  /** All that was sent, for a look at what must not be in it. */
  text: string;
}

/** A server, on each of them. */
export interface EveryWire extends Disposable {
  /** A unary call, in bytes. */
  send(wire: Wire, path: string, message: Uint8Array, headers: Record<string, string>): Promise<Answer>;
}

/** Calls a server on each wire, without a library that would refuse what is wrong. */
export function everyWire(url: string): EveryWire {
  const session = http2.connect(url);
  return {
    async send(wire, path, message, headers) {
      const all = { "content-type": contentTypes[wire], ...headers };
      if (wire === "gRPC") return await sendGrpc(session, path, encodeEnvelope(0, message), all);
      const body = wire === "gRPC-Web" ? encodeEnvelope(0, message) : message;
      const response = await fetch(`${url}${path}`, {
        method: "POST",
        headers: all,
        body: Buffer.from(body),
      });
      const bytes = await response.bytes();
      const error = wire === "gRPC-Web" ? readGrpcWeb(bytes, response.headers) : readConnect(response, bytes);
      return { status: response.status, error, text: textOf(bytes, error) };
    },
    [Symbol.dispose]: () => session.close(),
  };
}

function readConnect({ ok, headers }: Response, bytes: Uint8Array): ConnectError | undefined {
  return ok
    ? undefined
    : errorFromJsonBytes(bytes, headers, new ConnectError(`not Connect: ${Buffer.from(bytes)}`));
}

/** The trailers are the last frame of the body. */
function readGrpcWeb(bytes: Uint8Array, headers: Headers): ConnectError | undefined {
  let rest = Buffer.from(bytes);
  while (rest.length >= 5) {
    const end = 5 + rest.readUInt32BE(1);
    if (rest[0] === trailerFlag) return findTrailerError(trailerParse(rest.subarray(5, end)));
    rest = rest.subarray(end);
  }
  return findTrailerError(headers);
}

async function sendGrpc(
  session: http2.ClientHttp2Session,
  path: string,
  body: Uint8Array,
  headers: Record<string, string>,
): Promise<Answer> {
  const stream = session.request({ ":method": "POST", ":path": path, te: "trailers", ...headers });
  const received = new Headers();
  const collect = (fields: http2.IncomingHttpHeaders) => {
    for (const [name, value] of Object.entries(fields)) {
      if (!name.startsWith(":")) received.set(name, String(value));
    }
  };
  let status = 0;
  stream.on("response", (fields) => {
    status = Number(fields[":status"]);
    collect(fields);
  });
  stream.on("trailers", collect);
  stream.resume().end(body);
  await once(stream, "close");
  const error = findTrailerError(received);
  return { status, error, text: textOf(new Uint8Array(), error) };
}

function textOf(bytes: Uint8Array, error: ConnectError | undefined): string {
  const details = error?.details.map((detail) =>
    "value" in detail ? Buffer.from(detail.value as Uint8Array) : "",
  );
  return [Buffer.from(bytes), error?.rawMessage, ...(details ?? [])].join("\n");
}
