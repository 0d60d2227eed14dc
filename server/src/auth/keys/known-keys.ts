import { LRUCache } from "lru-cache";
import type { Bus } from "../../bus/bus.ts";
import type { AddressRanges } from "../../rpc/address-ranges.ts";
import type { Caller } from "../../rpc/caller.ts";
import { keysChannel, readKeyChange } from "./changes.ts";

/** What is remembered of a key that can be used. */
export interface KnownKey {
  readonly caller: Caller & { readonly apiKeyId: string };
  /** The only addresses that it may be used from; undefined: any. */
  readonly addresses: AddressRanges | undefined;
  readonly loadedAtMs: number;
  readonly expiresAtMs: number;
}

/** Keys by the hash of their secret, forgotten in every process as soon as they change in one. */
export interface KnownKeys {
  get(keyHash: string): KnownKey | undefined;
  /** Whether the hash was lately seen to belong to no key. */
  isUnknown(keyHash: string): boolean;
  /** To be called before the database is read; what it returns says whether the result may be remembered. */
  reading(): () => boolean;
  set(keyHash: string, key: KnownKey): void;
  setUnknown(keyHash: string): void;
  forget(apiKeyId: string): void;
  close(): void;
}

/** How long a key is believed while the bus is broken, so that a revoked one works no longer than a second. */
const unheardTtlMs = 900;
/** How long a key that was not found stays unknown, so that a wrong key does not cost a query per call. */
const unknownTtlMs = 5_000;

export function createKnownKeys(
  bus: Pick<Bus, "subscribe" | "onGap" | "connected">,
  sizes: { readonly apiKeyCacheSize: number; readonly unknownApiKeyCacheSize: number },
): KnownKeys {
  const hashes = new Map<string, string>();
  const known = new LRUCache<string, KnownKey>({
    max: sizes.apiKeyCacheSize,
    dispose: ({ caller }, keyHash) => {
      if (hashes.get(caller.apiKeyId) === keyHash) hashes.delete(caller.apiKeyId);
    },
    noDisposeOnSet: true,
  });
  // Apart from the known ones, so that invented keys do not push those out.
  const unknown = new LRUCache<string, number>({ max: sizes.unknownApiKeyCacheSize });
  /** Counts what was forgotten: what was read before is answered and not remembered. */
  let changes = 0;

  const forget = (apiKeyId: string) => {
    changes++;
    const keyHash = hashes.get(apiKeyId);
    if (keyHash !== undefined) known.delete(keyHash);
  };
  const forgetAll = () => {
    changes++;
    known.clear();
    unknown.clear();
  };
  const subscriptions = [
    bus.subscribe(keysChannel, (message) => {
      const apiKeyId = readKeyChange(message);
      if (apiKeyId === undefined) forgetAll();
      else forget(apiKeyId);
    }),
    bus.onGap(forgetAll),
  ];

  return {
    get(keyHash) {
      const found = known.get(keyHash);
      if (!found) return undefined;
      const now = Date.now();
      if (now >= found.expiresAtMs) return undefined;
      return bus.connected || now - found.loadedAtMs < unheardTtlMs ? found : undefined;
    },
    isUnknown: (keyHash) => Date.now() < (unknown.get(keyHash) ?? 0),
    reading() {
      const before = changes;
      return () => changes === before;
    },
    set(keyHash, key) {
      hashes.set(key.caller.apiKeyId, keyHash);
      known.set(keyHash, key);
    },
    setUnknown(keyHash) {
      unknown.set(keyHash, Date.now() + unknownTtlMs);
    },
    forget,
    close() {
      for (const end of subscriptions) end();
    },
  };
}
