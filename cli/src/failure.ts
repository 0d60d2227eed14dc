import { Code, PulsewireError } from "@pulsewire/sdk";

/** How the process ends. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  credentials: 3,
  notFound: 4,
  unreachable: 5,
  partly: 6,
  interrupted: 130,
} as const;

/** Something that a person can put right: the message says what is wrong and what to do. */
export class Failure extends Error {
  override readonly name = "Failure";
  readonly exitCode: number;

  constructor(message: string, exitCode: number = exitCodes.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}

/** What is told of an error. */
export interface Explanation {
  readonly exitCode: number;
  /** Sentences for a person. */
  readonly message: string;
  /** The documented reason, where the server gave one. */
  readonly reason?: string;
  readonly violations?: readonly { field: string; description: string }[];
}

/** Says what is wrong and what to do. */
export function explain(error: unknown, command: string): Explanation {
  const failure = failureIn(error);
  if (failure) return { exitCode: failure.exitCode, message: failure.message };
  if (error instanceof PulsewireError) return explainCall(error);
  const { code = "", message = String(error) } = error as NodeJS.ErrnoException;
  if (code.startsWith("ERR_PARSE_ARGS")) {
    const [sentence = message] = message.split(/\. To specify|\. Positional/);
    return { exitCode: exitCodes.usage, message: `${sentence.replace(/\.$/, "")}. See ${command} --help.` };
  }
  return { exitCode: exitCodes.failed, message };
}

/** A failure while a call got its token comes wrapped in an error of the call. */
function failureIn(error: unknown): Failure | undefined {
  if (error instanceof Failure) return error;
  return error instanceof Error && error.cause ? failureIn(error.cause) : undefined;
}

function explainCall(error: PulsewireError): Explanation {
  const told = (exitCode: number, advice = "") => ({
    exitCode,
    message: advice ? `${sentence(error.message)} ${advice}` : sentence(error.message),
    ...(error.reason && { reason: error.reason }),
    ...(error.violations.length > 0 && { violations: error.violations }),
  });
  switch (error.code) {
    case Code.Unauthenticated:
      return told(exitCodes.credentials, "Sign in with: pulsewire login");
    case Code.PermissionDenied:
      if (error.reason === "PASSWORD_CHANGE_REQUIRED")
        return told(exitCodes.credentials, "Change it with: pulsewire login");
      return told(exitCodes.credentials, "Use a key or a person that may do this.");
    case Code.NotFound:
      return told(exitCodes.notFound);
    case Code.InvalidArgument:
      return told(exitCodes.usage);
    case Code.Unavailable:
      if (error.reason) return told(exitCodes.unreachable, "Try again in a moment.");
      return {
        exitCode: exitCodes.unreachable,
        message: `The server does not answer (${error.message}). Is it running? --endpoint or PULSEWIRE_ENDPOINT name another one.`,
      };
    case Code.Canceled:
      return told(exitCodes.interrupted);
    default:
      return told(exitCodes.failed);
  }
}

/** The server's messages begin small and end without a stop. */
function sentence(text: string): string {
  const trimmed = text.trim();
  return `${trimmed.charAt(0).toUpperCase()}${trimmed.slice(1)}${/[.!?]$/.test(trimmed) ? "" : "."}`;
}
