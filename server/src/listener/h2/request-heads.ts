import type { HeaderFields, HeaderLimits } from "./header-reader.ts";
import { HeaderReader } from "./header-reader.ts";
import { type RequestHead, requestHeadOf } from "./request-head.ts";

/** Blocks that are remembered with their heads, up to this length each. */
const maxKnownHeads = 64;
const maxKnownBlockBytes = 256;

/** What a block says that begins a request. */
export interface ReadHead {
  /** Undefined: it is malformed, or too large. */
  readonly head: RequestHead | undefined;
  readonly tooLarge: boolean;
}

/** Reads the header blocks of a connection. Clients repeat those of requests byte by byte: what was read before is given again. */
export class RequestHeads {
  readonly #reader: HeaderReader;
  /** As long as the reader's table is the same, the same block says the same. */
  #known = new Map<string, ReadHead>();
  #knownVersion = 0;

  constructor(limits: HeaderLimits) {
    this.#reader = new HeaderReader(limits);
  }

  read(block: Buffer): ReadHead {
    const mayBeKnown = block.length <= maxKnownBlockBytes;
    const known = mayBeKnown ? this.#find(block) : undefined;
    if (known) return known;
    const before = this.#reader.version;
    const { list, tooLarge } = this.#reader.read(block);
    const read = { head: tooLarge ? undefined : requestHeadOf(list), tooLarge };
    const isRepeatable = read.head !== undefined && this.#reader.version === before;
    if (mayBeKnown && isRepeatable && this.#known.size < maxKnownHeads)
      this.#known.set(block.toString("latin1"), read);
    return read;
  }

  readTrailers(block: Buffer): HeaderFields {
    return this.#reader.read(block);
  }

  #find(block: Buffer): ReadHead | undefined {
    if (this.#knownVersion !== this.#reader.version) {
      this.#knownVersion = this.#reader.version;
      this.#known = new Map();
      return undefined;
    }
    return this.#known.get(block.toString("latin1"));
  }
}
