import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { Scope } from "../../gen/pulsewire/options/v1/access_pb.js";
import { addressRanges } from "../../rpc/address-ranges.ts";
import type { Caller } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import { actsForPlatform } from "../platform.ts";
import type { ApiKeyRow } from "./store.ts";

/** What binds a key, beside its scopes. */
export type KeyBounds = Pick<
  ApiKeyRow,
  "store_ids" | "allowed_ip_ranges" | "requests_per_minute" | "expires_at"
>;

/** Refuses a key that would carry scopes which the caller lacks; API keys make keys with TENANT_ADMIN only. */
export function requireScopesOf(caller: Caller, method: string, wanted: readonly string[]): void {
  if (actsForPlatform(caller)) return;
  const needed = caller.kind === "user" ? wanted : [Scope[Scope.TENANT_ADMIN], ...wanted];
  const missing = needed.filter((name) => !caller.scopes.has(Scope[name as keyof typeof Scope]));
  if (missing.length === 0) return;
  throw refused(method, `a key may not do more than its maker, who lacks ${missing.join(", ")}`, {
    scopes: missing.join(" or "),
  });
}

/** Refuses a key that would be bound less than the key that makes it, and so would undo that one's limits. */
export function requireBoundLike(maker: KeyBounds, method: string, wanted: KeyBounds): void {
  const wider = Object.entries({
    store_ids: isWider(maker.store_ids, wanted.store_ids, (id) => maker.store_ids.includes(id)),
    allowed_ip_ranges: isWider(
      maker.allowed_ip_ranges,
      wanted.allowed_ip_ranges,
      addressRanges(maker.allowed_ip_ranges).covers,
    ),
    requests_per_minute:
      maker.requests_per_minute > 0 &&
      (wanted.requests_per_minute === 0 || wanted.requests_per_minute > maker.requests_per_minute),
    expires_at:
      maker.expires_at !== null && (wanted.expires_at === null || wanted.expires_at > maker.expires_at),
  }).find(([, isWider]) => isWider);
  if (!wider) return;
  const [field] = wider;
  throw refused(method, `a key may not be bound less than the key that makes it; see its ${field}`, {
    restriction: field,
  });
}

/** An empty list is no bound at all. */
function isWider(
  bound: readonly string[],
  wanted: readonly string[],
  isInside: (value: string) => boolean,
): boolean {
  return bound.length > 0 && (wanted.length === 0 || !wanted.every(isInside));
}

/** Refuses whoever administers no keys and has not made this one. */
export function requireOwnKey(caller: Caller, method: string, key: ApiKeyRow): void {
  if (caller.scopes.has(Scope.TENANT_ADMIN) || actsForPlatform(caller)) return;
  if (caller.kind === "user" && caller.userId === key.created_by) return;
  throw refused(method, "the key is another's; ask an owner or admin", { scopes: "TENANT_ADMIN" });
}

function refused(method: string, message: string, metadata: Record<string, string>) {
  return failure(ErrorReason.MISSING_SCOPE, message, {
    metadata: { method: `pulsewire.auth.v1.AuthService/${method}`, ...metadata },
  });
}
