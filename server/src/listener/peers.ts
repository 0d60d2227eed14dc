import type { Http2ServerRequest, Http2Session, ServerHttp2Stream } from "node:http2";
import type { HttpRequest } from "./http.ts";
import type { Peer } from "./lean/path.ts";

type PeerSocket = Peer["socket"];

const peers = new WeakMap<Http2Session, PeerSocket>();

/** Says whose requests come in a session that has no socket of its own. */
export function setPeer(session: Http2Session, peer: PeerSocket): void {
  peers.set(session, peer);
}

/** The peer of a stream. The socket of a session is a proxy that costs more than a whole short call does otherwise. */
export function peerOf({ session }: Pick<ServerHttp2Stream, "session">): PeerSocket {
  if (!session) return {};
  let peer = peers.get(session);
  if (!peer) {
    peer = { remoteAddress: session.socket?.remoteAddress };
    peers.set(session, peer);
  }
  return peer;
}

/** The same for a request that Node has read. */
export function peerOfRequest(req: HttpRequest): Peer {
  return "stream" in req ? { headers: req.headers, socket: peerOf((req as Http2ServerRequest).stream) } : req;
}
