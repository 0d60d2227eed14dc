import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { type Credentials, fixedHeaders, type TokenSource, tokensOf } from "./credentials.ts";
import { AuthService } from "./gen/pulsewire/auth/v1/auth_service_pb.js";

/**
 * Adds the credentials to every call.
 *
 * @param bare a transport without this interceptor, for the login itself
 * @throws TypeError where more than one kind is given
 */
export function authenticate(credentials: Credentials, bare: Transport): Interceptor {
  const auth = createClient(AuthService, bare);
  const tokens = tokensOf(credentials, { ...auth, isRefusal });
  if (tokens) return renewing(tokens);
  const headers = Object.entries(fixedHeaders(credentials));
  return (next) => (request) => {
    for (const [name, value] of headers) request.header.set(name, value);
    return next(request);
  };
}

function isRefusal(error: unknown): boolean {
  return ConnectError.from(error).code === Code.Unauthenticated;
}

/** Sends tokens of the source, and asks for another one when the server refuses one. */
function renewing(tokens: TokenSource): Interceptor {
  let refused: string | undefined;
  return (next) => async (request) => {
    const used = await tokens(refused);
    request.header.set("authorization", `Bearer ${used}`);
    const note = (error: unknown) => {
      const again = isRefusal(error);
      if (again) refused = used;
      return again;
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: noting(response.message, note) } : response;
    } catch (error) {
      // The messages of a stream cannot be sent a second time; its next call has another token.
      if (!note(error) || request.stream) throw error;
      request.header.set("authorization", `Bearer ${await tokens(used)}`);
      return next(request);
    }
  };
}

/** Most protocols tell of a refused stream only where its messages would come. */
async function* noting<T>(messages: AsyncIterable<T>, note: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    note(error);
    throw error;
  }
}
