/**
 * Every limit of the network front, with its default. Pass a part of this object to `createListener` and
 * `createRpcHandler` to change single values; the unit is in each name.
 */
export interface ListenerLimits {
  /** Largest message read from a client, after decompression. Larger: RESOURCE_EXHAUSTED. */
  readMaxBytes: number;
  /** Largest message sent to a client, before compression. Larger: RESOURCE_EXHAUSTED. */
  writeMaxBytes: number;
  /** Bytes that may wait for a watcher whose stream is pushed; beyond, it ends with RESOURCE_EXHAUSTED. */
  maxBehindBytes: number;
  /** Messages smaller than this are sent uncompressed, even if the client accepts compression. */
  compressMinBytes: number;
  /** Longest deadline a client may ask for. Longer: INVALID_ARGUMENT. Node's timers end at 2^31 - 1 ms. */
  maxTimeoutMs: number;

  /** Connections served at once; further ones are closed at once. */
  maxConnections: number;
  /** Time for a new connection to show its protocol: the first bytes in cleartext, or the TLS handshake. */
  sniffTimeoutMs: number;
  /** Idle time after which the kernel begins to ask whether the peer is still there (TCP keep-alive). */
  tcpKeepAliveMs: number;

  /** Largest header block of a request, HTTP/1.1 and HTTP/2. Larger: 431, or the stream is reset. */
  maxHeaderBytes: number;
  /** Most header fields of a request, HTTP/1.1 and HTTP/2. */
  maxHeaderListPairs: number;
  /** Time for the headers of an HTTP/1.1 request to arrive whole. Longer: 408. */
  headersTimeoutMs: number;
  /** Time for a request body to arrive whole, unless the method takes a stream. Longer: DEADLINE_EXCEEDED. */
  requestTimeoutMs: number;
  /** Time for a peer to send what is left of a body nobody reads any more, and to close after us; then it is cut off. */
  lingerTimeoutMs: number;
  /** Idle time between two requests on an HTTP/1.1 connection. */
  keepAliveTimeoutMs: number;

  /** Idle time of an HTTP/2 connection without streams, before it gets GOAWAY. */
  idleTimeoutMs: number;
  /** Streams open at once on one HTTP/2 connection; further ones are refused and may be retried. */
  maxConcurrentStreams: number;
  /** Receive window of each HTTP/2 stream: a batch of some thousand events arrives without a pause. */
  streamWindowBytes: number;
  /** Receive window of an HTTP/2 connection, shared by its streams. */
  connectionWindowBytes: number;
  /** Memory one HTTP/2 connection may hold in Node; new streams are refused above it. */
  maxSessionMemoryMb: number;
  /** Entries accepted in one SETTINGS frame. */
  maxSettings: number;
  /** PINGs that may wait for an answer at once. */
  maxOutstandingPings: number;
  /** Invalid frames after which an HTTP/2 connection is closed. */
  maxInvalidFrames: number;
  /** Streams a client may reset in a burst before its connection is closed (rapid reset). */
  maxRapidResets: number;
  /** Stream resets that are forgiven each second. */
  rapidResetsPerSecond: number;
}

/** The defaults of {@link ListenerLimits}. */
export const listenerLimits: Readonly<ListenerLimits> = Object.freeze({
  readMaxBytes: 16 * 1024 * 1024,
  writeMaxBytes: 64 * 1024 * 1024,
  maxBehindBytes: 1024 * 1024,
  compressMinBytes: 1024,
  maxTimeoutMs: 24 * 60 * 60 * 1000,

  maxConnections: 20_000,
  sniffTimeoutMs: 10_000,
  tcpKeepAliveMs: 60_000,

  maxHeaderBytes: 32 * 1024,
  maxHeaderListPairs: 128,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 60_000,
  lingerTimeoutMs: 2_000,
  keepAliveTimeoutMs: 75_000,

  idleTimeoutMs: 300_000,
  maxConcurrentStreams: 1_000,
  streamWindowBytes: 1024 * 1024,
  connectionWindowBytes: 4 * 1024 * 1024,
  maxSessionMemoryMb: 32,
  maxSettings: 32,
  maxOutstandingPings: 10,
  maxInvalidFrames: 100,
  maxRapidResets: 500,
  rapidResetsPerSecond: 33,
});
