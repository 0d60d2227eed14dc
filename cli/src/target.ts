/** Who is called, and as whom: options before the environment, the environment before what `login` stored. */
import { type Credentials, createClient } from "@pulsewire/sdk";
import type { Args } from "./command.ts";
import { exitCodes, Failure } from "./failure.ts";
import type { Io } from "./io.ts";
import { credentialsFile, readStored } from "./stored.ts";
import { storedTokens } from "./stored-tokens.ts";

export interface Target {
  readonly endpoint: string;
  readonly credentials: Credentials;
}

/** The server where none is named: the one that `npm start` starts. */
export const defaultEndpoint = "http://127.0.0.1:8080";

/** Throws Failure where there are no credentials. */
export async function findTarget(args: Args, io: Io): Promise<Target> {
  const file = credentialsFile(io);
  const stored = await readStored(file);
  const { PULSEWIRE_ENDPOINT, PULSEWIRE_API_KEY, PULSEWIRE_TOKEN } = io.env;
  const named = args.text("endpoint") ?? PULSEWIRE_ENDPOINT;
  const endpoint = checkEndpoint(named ?? stored?.endpoint ?? defaultEndpoint);
  const apiKey = args.text("api-key") ?? PULSEWIRE_API_KEY;
  if (apiKey) return { endpoint, credentials: { apiKey } };
  if (PULSEWIRE_TOKEN) return { endpoint, credentials: { token: PULSEWIRE_TOKEN } };
  if (!stored) {
    throw new Failure(
      "You are not signed in. Sign in with `pulsewire login`, or give --api-key or PULSEWIRE_API_KEY.",
      exitCodes.credentials,
    );
  }
  // What was stored for one server is no business of another.
  if (endpoint !== stored.endpoint) {
    throw new Failure(
      `You are signed in to ${stored.endpoint}, not to ${endpoint}. Sign in there with \`pulsewire login --endpoint ${endpoint}\`, or give --api-key.`,
      exitCodes.credentials,
    );
  }
  if (stored.apiKey) return { endpoint, credentials: { apiKey: stored.apiKey } };
  const open = () => createClient({ endpoint });
  return { endpoint, credentials: { token: storedTokens(file, open) } };
}

/** Throws Failure where it is no address of a server. */
export function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol === "http:" || url?.protocol === "https:") return text.replace(/\/+$/, "");
  throw new Failure(
    `The endpoint "${text}" is no address such as ${defaultEndpoint} or https://pulsewire.example.com.`,
    exitCodes.usage,
  );
}
