/** What a queue needs to know of what waits in it. */
interface Waits {
  readonly tenantId: string;
  /** Rows. */
  readonly weight: number;
  readonly since: number;
}

/**
 * What waits with one priority, by tenant: each has its turn, so that one that sends much does not keep the others waiting behind
 * all that it sent.
 */
export class Lane<T extends Waits> {
  /** In the order of the next turn; each in order of arrival. */
  readonly #byTenant = new Map<string, T[]>();

  add(waiting: T): void {
    const own = this.#byTenant.get(waiting.tenantId);
    if (own) own.push(waiting);
    else this.#byTenant.set(waiting.tenantId, [waiting]);
  }

  /**
   * Takes what came before `since` and adds it to `taken`, up to `room` rows: of each tenant its part, and what is left of the
   * room in further turns. The first of all may be larger than the room. Returns the rows that were taken.
   */
  take(taken: T[], room: number, since = Number.POSITIVE_INFINITY): number {
    let left = room;
    for (let some = true; some && left > 0; ) {
      some = false;
      const part = Math.max(1, left / this.#byTenant.size);
      for (const [tenantId, own] of [...this.#byTenant]) {
        let count = 0;
        for (let rows = 0; count < own.length && rows < part; count++) {
          const one = own[count] as T;
          if (one.since > since || (taken.length > 0 && one.weight > left)) break;
          taken.push(one);
          rows += one.weight;
          left -= one.weight;
        }
        if (count === 0) continue;
        some = true;
        this.#byTenant.delete(tenantId);
        own.splice(0, count);
        if (own.length > 0) this.#byTenant.set(tenantId, own);
      }
    }
    return room - left;
  }
}
