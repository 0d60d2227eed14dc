import type { Caller } from "../rpc/caller.ts";

/** Finds out who a caller is from what they present. */
export interface Credentials {
  /** The caller of an API key. Throws INVALID_API_KEY. */
  fromApiKey(secret: string): Promise<Caller>;
  /** The caller of an access token. Throws INVALID_TOKEN. */
  fromToken(token: string): Promise<Caller>;
}
