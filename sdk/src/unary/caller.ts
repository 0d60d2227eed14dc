import { type ClientOptions, defaultTimeoutMs } from "../client-options.ts";
import { Code } from "../code.ts";
import { bearer, fixedHeaders, type SessionAnswer, tokensOf } from "../credentials.ts";
import { asPulsewireError, PulsewireError } from "../errors.ts";
import { readFields } from "../message-reader.ts";
import { MessageWriter } from "../message-writer.ts";
import type { Exchange } from "./exchange.ts";
import type { Decompress, Protocol } from "./protocols.ts";

/** What a call may take, and what ends it. */
export interface UnaryOptions {
  signal?: AbortSignal;
  /** Milliseconds. Default: that of the client. */
  timeoutMs?: number;
}

/**
 * What a gateway sends with: messages that are encoded go out, and the answer comes back as it is. It takes a fraction of
 * the code that clients of whole services take.
 */
export interface UnaryCaller {
  /**
   * Makes a call.
   *
   * @param path such as `/pulsewire.auth.v1.AuthService/Login`
   * @param message its bytes, in pieces that are not changed until it has ended
   * @returns the bytes of the answer; rejects with a PulsewireError
   */
  call(path: string, message: readonly Uint8Array[], options?: UnaryOptions): Promise<Uint8Array>;
  /** Ends what is running with code `Canceled` and gives connections back. */
  close(): void;
}

/** What a caller is made of. */
export interface CallerOptions extends ClientOptions {
  exchange: Exchange;
  protocol: Protocol;
  /** How requests of more than a kilobyte are compressed, where they are. */
  compress?: ((bytes: readonly Uint8Array[]) => Promise<Uint8Array>) | undefined;
  /** Decompresses answers, where HTTP does not. */
  decompress?: Decompress | undefined;
  /** Says what an error means that is none of the service's. */
  explain?(error: PulsewireError): PulsewireError;
  /** Gives the connection back. */
  close?(): void;
}

const compressFromBytes = 1024;
const authService = "/pulsewire.auth.v1.AuthService";

/** @throws TypeError where several kinds of credentials are given */
export function createCaller(options: CallerOptions): UnaryCaller {
  const { exchange, protocol, compress, decompress } = options;
  /** What ends each call that runs. A signal for all of them would hold what ended calls held. */
  const running: (() => void)[] = [];
  let closed = false;
  const fixed = { ...options.headers, ...fixedHeaders(options) };

  const attempt = async (
    path: string,
    message: readonly Uint8Array[],
    authorization: Record<string, string>,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Uint8Array> => {
    const size = message.reduce((sum, { length }) => sum + length, 0);
    const compressed = compress !== undefined && size >= compressFromBytes;
    const pieces = compressed ? [await compress(message)] : message;
    signal.throwIfAborted();
    const response = await exchange({
      path,
      headers: {
        ...fixed,
        ...authorization,
        ...protocol.headers(timeoutMs),
        ...(compressed && { [protocol.encodingHeader]: "gzip" }),
      },
      body: protocol.frame(pieces, compressed),
      signal,
    });
    return protocol.read(response, decompress);
  };

  /** Runs calls with one deadline, and tells how they failed. */
  const within = async <T>(
    { signal, timeoutMs = options.timeoutMs ?? defaultTimeoutMs }: UnaryOptions,
    work: (signal: AbortSignal, timeoutMs: number) => Promise<T>,
  ): Promise<T> => {
    const ended = new AbortController();
    const cancel = () =>
      ended.abort(new PulsewireError({ code: Code.Canceled, message: "The call was cancelled." }));
    const expire = () =>
      ended.abort(new PulsewireError({ code: Code.DeadlineExceeded, message: "The call timed out." }));
    if (closed || signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    running.push(cancel);
    const timer = setTimeout(expire, timeoutMs);
    try {
      ended.signal.throwIfAborted();
      return await work(ended.signal, timeoutMs);
    } catch (thrown) {
      if (ended.signal.aborted) throw ended.signal.reason;
      const error = asPulsewireError(thrown);
      throw options.explain?.(error) ?? error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", cancel);
      running.splice(running.indexOf(cancel), 1);
    }
  };

  const open = async (method: string, message: MessageWriter) =>
    readSession(
      await within({}, (signal, timeoutMs) =>
        attempt(`${authService}/${method}`, [message.finish()], {}, timeoutMs, signal),
      ),
    );
  const tokens = tokensOf(options, {
    login: ({ email, password, tenantSlug }) =>
      open("Login", new MessageWriter().text(1, email).text(2, password).text(3, tenantSlug)),
    refreshToken: ({ refreshToken }) => open("RefreshToken", new MessageWriter().text(1, refreshToken)),
    isRefusal,
  });
  let refused: string | undefined;

  return {
    call: (path, message, callOptions = {}) =>
      within(callOptions, async (signal, timeoutMs) => {
        if (!tokens) return attempt(path, message, {}, timeoutMs, signal);
        const used = await tokens(refused);
        try {
          return await attempt(path, message, bearer(used), timeoutMs, signal);
        } catch (error) {
          if (!isRefusal(error)) throw error;
          refused = used;
          return attempt(path, message, bearer(await tokens(used)), timeoutMs, signal);
        }
      }),
    close() {
      closed = true;
      for (const cancel of running) cancel();
      options.close?.();
    },
  };
}

function isRefusal(error: unknown): boolean {
  return error instanceof PulsewireError && error.code === Code.Unauthenticated;
}

/** A LoginResponse or RefreshTokenResponse. */
function readSession(bytes: Uint8Array): SessionAnswer {
  const session = { accessToken: "", refreshToken: "", expiresIn: 0 };
  readFields(bytes, (field, value) => {
    if (field === 1) session.accessToken = value.text;
    else if (field === 3) session.expiresIn = value.number;
    else if (field === 4) session.refreshToken = value.text;
  });
  return session;
}
