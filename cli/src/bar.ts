import { type Io, write } from "./io.ts";

/** How often a bar is drawn anew, in milliseconds. */
const drawMs = 100;

/** A bar on one line of the terminal; nothing where messages do not go to one. */
export class Bar {
  readonly #io: Io;
  readonly #on: boolean;
  #drawnMs = 0;
  #shown = false;

  constructor(io: Io) {
    this.#io = io;
    this.#on = io.stderr.isTTY === true && io.env.TERM !== "dumb";
  }

  /**
   * Shows how far it is, not more often than one can see.
   *
   * @param part 0 to 1; undefined where the end is not known
   */
  show(part: number | undefined, remark: string): void {
    const now = performance.now();
    if (!this.#on || now - this.#drawnMs < drawMs) return;
    this.#drawnMs = now;
    this.#shown = true;
    const line = part === undefined ? remark : `${barOf(part)} ${remark}`;
    void write(this.#io.stderr, `\r${line.slice(0, (this.#io.stderr.columns || 80) - 1)}\x1b[K`);
  }

  /** Removes it, so that something else can be printed. */
  clear(): void {
    if (this.#shown) void write(this.#io.stderr, "\r\x1b[K");
    this.#shown = false;
    this.#drawnMs = 0;
  }
}

/** Thirty squares, the percentage behind. */
export function barOf(part: number): string {
  const bounded = Math.min(1, Math.max(0, part));
  const full = Math.round(bounded * 30);
  return `${"█".repeat(full)}${"░".repeat(30 - full)} ${String(Math.round(bounded * 100)).padStart(3)} %`;
}
