/** Everybody who watches a server of the bench, and who pushes to them as fast as they take it. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import {
  type WatchProgressResponse,
  WatchProgressResponseSchema,
} from "../../server/src/gen/pulsewire/progress/v1/progress_pb.js";

/** What the parent wants; answered by a message of the same kind. */
export type WatchCommand =
  | { readonly kind: "memory" }
  | { readonly kind: "publish"; readonly seconds: number };

export type WatchAnswer =
  | { readonly kind: "memory"; readonly rss: number; readonly used: number; readonly watchers: number }
  | { readonly kind: "publish"; readonly cpu: number; readonly sent: number };

/** Stands once in every message and nowhere else, so that messages can be counted. */
export const mark = "~";

interface Target {
  write(message: WatchProgressResponse): boolean;
  onDrain(listener: () => void): void;
}

export class Watchers {
  readonly #targets = new Map<Target, { behind: boolean }>();

  add(target: Target): () => void {
    this.#targets.set(target, { behind: false });
    return () => this.#targets.delete(target);
  }

  async obey(command: WatchCommand): Promise<void> {
    process.send?.(command.kind === "memory" ? await this.#measure() : await this.#publish(command.seconds));
  }

  async #measure(): Promise<WatchAnswer> {
    for (let round = 0; round < 3; round++) {
      globalThis.gc?.();
      await nextTurn();
    }
    const { rss, heapUsed, external } = process.memoryUsage();
    return { kind: "memory", rss, used: heapUsed + external, watchers: this.#targets.size };
  }

  /** Who is behind is left out until it has caught up. */
  async #publish(seconds: number): Promise<WatchAnswer> {
    const before = process.cpuUsage();
    const end = performance.now() + seconds * 1_000;
    let sent = 0;
    for (let version = 1n; performance.now() < end; version++) {
      const message = create(WatchProgressResponseSchema, {
        deltas: [{ clientKrn: "krn:acme:client:store-17", filename: `orders${mark}.csv`, version }],
        cursor: `c${version}`,
      });
      for (const [target, state] of this.#targets) {
        if (state.behind) continue;
        sent++;
        if (target.write(message)) continue;
        state.behind = true;
        target.onDrain(() => {
          state.behind = false;
        });
      }
      await nextTurn();
    }
    const { user, system } = process.cpuUsage(before);
    return { kind: "publish", cpu: (user + system) / 1e6, sent };
  }
}
