/** Of a UUID as text. */
const characters = 36;
/** With its length. */
const writtenBytes = 37;
const poolBytes = 4096;
/** Random bytes of one UUID. */
const randomBytes = 10;
const dash = 0x2d;
const zero = 0x30;
const nine = 0x39;
const a = 0x61;
const f = 0x66;
const encoder = /* @__PURE__ */ new TextEncoder();

/**
 * Writes UUIDv7 as text without making the text. Those of one millisecond are numbered on from the first one's random
 * part (RFC 9562, 6.2, method 2): so they cost little to make, and compress well.
 */
export class UuidWriter {
  readonly #pool = new Uint8Array(poolBytes);
  #used = poolBytes;
  readonly #last = new Uint8Array(writtenBytes);
  #timeMs = -1;

  /** Writes the next one behind its length, made at this time. */
  write(page: Uint8Array, at: number, now: number): number {
    if (now === this.#timeMs) this.#increment();
    else this.#begin(now);
    if (at + writtenBytes <= page.length) page.set(this.#last, at);
    return at + writtenBytes;
  }

  #begin(now: number): void {
    this.#timeMs = now;
    if (this.#used + randomBytes > poolBytes) {
      crypto.getRandomValues(this.#pool);
      this.#used = 0;
    }
    const [last, pool] = [this.#last, this.#pool];
    const time = Math.trunc(now).toString(16).padStart(12, "0");
    last[0] = characters;
    encoder.encodeInto(`${time.slice(0, 8)}-${time.slice(8)}-7`, last.subarray(1));
    let random = this.#used;
    this.#used += randomBytes;
    // 12 random bits, the variant with 6, then 56.
    last[16] = digit(pool[random++] as number);
    putByte(last, 17, pool[random++] as number);
    last[19] = dash;
    putByte(last, 20, ((pool[random++] as number) & 0x3f) | 0x80);
    putByte(last, 22, pool[random++] as number);
    last[24] = dash;
    for (let at = 25; at < writtenBytes; at += 2) putByte(last, at, pool[random++] as number);
  }

  /** Adds one to the last twelve digits, which no millisecond is long enough to use up. */
  #increment(): void {
    const last = this.#last;
    for (let at = writtenBytes - 1; at > 24; at--) {
      const digit = last[at] as number;
      if (digit !== f) {
        last[at] = digit === nine ? a : digit + 1;
        return;
      }
      last[at] = zero;
    }
  }
}

function putByte(target: Uint8Array, at: number, byte: number): void {
  target[at] = digit(byte >> 4);
  target[at + 1] = digit(byte);
}

/** The hexadecimal digit of the low four bits. */
function digit(value: number): number {
  const low = value & 0x0f;
  return low < 10 ? zero + low : a + low - 10;
}
