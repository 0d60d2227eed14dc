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

/** Headers or trailers of an answer, such as fetch's Headers. */
export interface AnswerHeaders {
  /** `null` where there is none; several of one name are one, with commas between them. */
  get(name: string): string | null;
  has(name: string): boolean;
}

/** The whole answer. */
export interface HttpResponse {
  status: number;
  headers: AnswerHeaders;
  /** Empty over fetch, which does not know of them. */
  trailers: AnswerHeaders;
  body: Uint8Array;
}

/** Makes a request and reads its answer. Rejects with a PulsewireError UNAVAILABLE where the connection fails. */
export type Exchange = (request: HttpRequest) => Promise<HttpResponse>;
