import type { Caller } from "../rpc/caller.ts";
import { invalidField } from "../rpc/errors.ts";
import type { Creator } from "./report.ts";

/** For whom a caller reports. Throws INVALID_FIELD where a person names somebody else. */
export function creatorOf(caller: Caller, email: string): Creator {
  const given = email.toLowerCase();
  if (caller.kind === "api-key") {
    return given ? { email: given, apiKeyId: null } : { email: "", apiKeyId: caller.apiKeyId ?? null };
  }
  const own = (caller.name ?? "").toLowerCase();
  if (given && given !== own) {
    throw invalidField(
      "email",
      "must be empty or your own address; only an API key or a connector reports for others",
      "progress.own_email",
    );
  }
  return { email: own, apiKeyId: null };
}
