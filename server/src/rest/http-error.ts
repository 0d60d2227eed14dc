import type { ConnectError } from "@connectrpc/connect";

/** A request that HTTP itself forbids, before any method is called: its status says what gRPC's codes cannot. */
export class HttpError extends Error {
  readonly status: 400 | 404 | 405 | 406 | 408 | 413 | 415;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: HttpError["status"], message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

/** What a dialect is asked to tell. */
export type RestError = ConnectError | HttpError;
