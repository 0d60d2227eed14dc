import { Code, PulsewireError } from "@pulsewire/sdk";

/** Something the person at the terminal can act on: told in its one sentence, without a stack. */
export class Failure extends Error {
  override readonly name = "Failure";
}

/** What to tell about an error, in a sentence where there is one. */
export function explain(error: unknown, endpoint: string): string {
  if (error instanceof Failure) return error.message;
  if (!(error instanceof PulsewireError)) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  switch (error.code) {
    case Code.Unauthenticated:
      return `The server at ${endpoint} refuses the API key: ${error.message}`;
    case Code.PermissionDenied:
      return `The API key may not do this at ${endpoint}: ${error.message}`;
    case Code.Unavailable:
      return `The server at ${endpoint} cannot be reached: ${error.message}`;
    default:
      return `The server at ${endpoint} answered ${Code[error.code]} ${error.reason}: ${error.message}`;
  }
}
