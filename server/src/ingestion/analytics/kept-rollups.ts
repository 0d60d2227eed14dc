/** The entries of rollups as this process keeps them: as long as the row has the same version they are the same. */
import { LRUCache } from "lru-cache";
import type { TenantTransaction } from "../../db/tenant.ts";
import type { RollupRow } from "../rollups/cover.ts";
import { decodeEntries, type Entries } from "../rollups/entries.ts";
import { isByUser, readEntries } from "../rollups/store.ts";
import { type Digest, digestOf } from "./digest.ts";

/** A period with its entries, and what was made of them. */
export interface KeptRollup {
  readonly startMs: number;
  readonly entries: Entries;
  /** Whether the entries are in the order of users. */
  readonly byUser: boolean;
  /** Of all types, or of one. */
  digest(type: number | undefined): Digest;
}

const entryBytes = 20;
const rowBytes = 500;
/** Digests of single types that are kept with a row. */
const maxDigests = 8;

export class KeptRollups {
  readonly #kept: LRUCache<string, KeptRollup & { readonly digests: Map<number, Digest> }>;

  constructor(maxBytes: number) {
    this.#kept = new LRUCache({ maxSize: maxBytes });
  }

  /** In the order of the rows, which are of this transaction's snapshot. */
  async load(trx: TenantTransaction, tenantId: string, rows: readonly RollupRow[]): Promise<KeptRollup[]> {
    const keyOf = ({ level, bucketMs, version }: RollupRow) => `${tenantId} ${level} ${bucketMs} ${version}`;
    const found = rows.map((row) => this.#kept.get(keyOf(row)));
    const missing = rows.filter((_, index) => !found[index]);
    const read = (await readEntries(trx, tenantId, missing)).values();
    return rows.map((row, index) => found[index] ?? this.#keep(keyOf(row), row, read.next().value as Buffer));
  }

  #keep(key: string, { level, bucketMs }: RollupRow, bytes: Buffer): KeptRollup {
    const entries = decodeEntries(bytes);
    const digests = new Map<number, Digest>();
    const base = entryBytes * entries.size + rowBytes;
    const kept = {
      startMs: bucketMs,
      entries,
      byUser: isByUser(level),
      digests,
      digest: (type: number | undefined) => {
        const known = digests.get(type ?? 0);
        if (known) return known;
        const made = digestOf(entries, type);
        if (digests.size >= maxDigests) digests.clear();
        digests.set(type ?? 0, made);
        if (this.#kept.peek(key) === kept) this.#weigh(key, kept, base);
        return made;
      },
    };
    this.#weigh(key, kept, base);
    return kept;
  }

  #weigh(key: string, kept: KeptRollup & { readonly digests: Map<number, Digest> }, base: number): void {
    const size = [...kept.digests.values()].reduce((sum, { bytes }) => sum + bytes, base);
    this.#kept.set(key, kept, { size });
  }
}
