/** A request over HTTP. */
export interface HttpRequest {
  /** Path of the method, such as `/pulsewire.auth.v1.AuthService/Login`. */
  path: string;
  headers: Record<string, string>;
  /** One behind the other. */
  body: readonly Uint8Array[];
  /** Ends it; it then rejects with the signal's reason. */
  signal: AbortSignal;
}

/** The whole answer. */
export interface HttpResponse {
  status: number;
  headers: Headers;
  /** Empty over fetch, which does not know of them. */
  trailers: Headers;
  body: Uint8Array;
}

/** Makes a request and reads its answer. Rejects with a PulsewireError UNAVAILABLE where the connection fails. */
export type Exchange = (request: HttpRequest) => Promise<HttpResponse>;
