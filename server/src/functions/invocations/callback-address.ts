import { isIP } from "node:net";
import type { FunctionsConfig } from "../../config.ts";
import { isPublicAddress } from "../../net/addresses.ts";
import { invalidField } from "../../rpc/errors.ts";

/**
 * Refuses what a callback may never be sent to, as far as the address itself tells; names are checked when they are
 * resolved. Throws INVALID_FIELD.
 */
export function requireCallbackAddress(url: string, { allowPrivateCallbacks }: FunctionsConfig): void {
  const field = "callback.url";
  if (!URL.canParse(url)) throw invalidField(field, "must be an address");
  const { protocol, hostname, username, password } = new URL(url);
  if (username || password) throw invalidField(field, "must not hold a password");
  if (allowPrivateCallbacks) return;
  if (protocol !== "https:") {
    throw invalidField(
      field,
      "must be https; the operator may allow http with PULSEWIRE_ALLOW_PRIVATE_CALLBACKS",
    );
  }
  const host = hostname.replace(/^\[|\]$/g, "");
  if (/^localhost\.?$|\.localhost\.?$/i.test(host) || (isIP(host) !== 0 && !isPublicAddress(host))) {
    throw invalidField(field, "leads into a private network; use a public address");
  }
}
