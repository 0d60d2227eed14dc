import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";

/**
 * `Headers` that are made only when somebody asks for more than single fields: building them costs more than most calls
 * do otherwise.
 */
abstract class LazyHeaders {
  /** All fields, from the moment when they were needed. */
  protected full: Headers | undefined;

  protected abstract build(): Headers;

  protected all(): Headers {
    this.full ??= this.build();
    return this.full;
  }

  get(name: string): string | null {
    return this.all().get(name);
  }
  has(name: string): boolean {
    return this.get(name) !== null;
  }
  set(name: string, value: string): void {
    this.all().set(name, value);
  }
  append(name: string, value: string): void {
    this.all().append(name, value);
  }
  delete(name: string): void {
    this.all().delete(name);
  }
  getSetCookie(): string[] {
    return this.all().getSetCookie();
  }
  forEach(callback: (value: string, key: string, parent: Headers) => void, thisArg?: unknown): void {
    this.all().forEach(callback, thisArg);
  }
  keys() {
    return this.all().keys();
  }
  values() {
    return this.all().values();
  }
  entries() {
    return this.all().entries();
  }
  [Symbol.iterator]() {
    return this.all()[Symbol.iterator]();
  }
}

/** The header fields of a request, as Node has read them. */
export class RequestFields extends LazyHeaders implements Headers {
  readonly #read: IncomingHttpHeaders;

  constructor(read: IncomingHttpHeaders) {
    super();
    this.#read = read;
  }

  override get(name: string): string | null {
    if (this.full) return this.full.get(name);
    const value = this.#read[name] ?? this.#read[name.toLowerCase()];
    if (typeof value === "string") return trimmed(value);
    return value === undefined ? null : value.map(trimmed).join(", ");
  }

  protected override build(): Headers {
    const headers = new Headers();
    for (const [name, value] of Object.entries(this.#read)) {
      if (name.startsWith(":") || value === undefined) continue;
      if (typeof value === "string") headers.append(name, value);
      else for (const each of value) headers.append(name, each);
    }
    return headers;
  }
}

function trimmed(value: string): string {
  return /^[\t ]|[\t ]$/.test(value) ? value.replace(/^[\t ]+|[\t ]+$/g, "") : value;
}

const plainName = /^[a-z0-9-]+$/;
const plainValue = /^(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?$/;

/** The header or trailer fields of an answer: seldom more than a few. */
export class AnswerFields extends LazyHeaders implements Headers {
  /** Names and values in turn. */
  #few: string[] = [];

  override get(name: string): string | null {
    if (this.full) return this.full.get(name);
    const index = this.#indexOf(name.toLowerCase());
    return index < 0 ? null : (this.#few[index + 1] as string);
  }

  override set(name: string, value: string): void {
    if (this.full || !isPlain(name, value)) {
      this.all().set(name, value);
      return;
    }
    const index = this.#indexOf(name);
    if (index < 0) this.#few.push(name, value);
    else this.#few[index + 1] = value;
  }

  /** Sets a field that is not set yet, whose name and value are known to be plain. */
  begin(name: string, value: string): void {
    this.#few.push(name, value);
  }

  override append(name: string, value: string): void {
    if (this.full || !isPlain(name, value)) {
      this.all().append(name, value);
      return;
    }
    const index = this.#indexOf(name);
    if (index < 0) this.#few.push(name, value);
    else this.#few[index + 1] += `, ${value}`;
  }

  override delete(name: string): void {
    if (this.full) this.full.delete(name);
    else if (this.#few.length > 0) this.all().delete(name);
  }

  /** Adds the fields to those of a Node response, each name with a prefix. */
  writeTo(target: OutgoingHttpHeaders, prefix = ""): void {
    if (this.full) {
      for (const [name, value] of this.full) put(target, prefix + name, value);
      return;
    }
    const few = this.#few;
    for (let index = 0; index < few.length; index += 2) {
      target[prefix + few[index]] = few[index + 1];
    }
  }

  /** Adds names and values in turn to a list, each name with a prefix. */
  pushTo(list: string[], prefix = ""): void {
    if (this.full) for (const [name, value] of this.full) list.push(prefix + name, value);
    else if (prefix === "") list.push(...this.#few);
    else this.#few.forEach((text, index) => void list.push(index % 2 === 0 ? prefix + text : text));
  }

  /** The fields as lines of HTTP/1.1, each name with a prefix. Throws where a value cannot be written. */
  lines(prefix = ""): string {
    let text = "";
    if (this.full) {
      for (const [name, value] of this.full) {
        if (unwritable.test(value)) throw new TypeError(`the header ${name} holds what no header can hold`);
        text += `${prefix}${name}: ${value}\r\n`;
      }
    } else {
      const few = this.#few;
      for (let index = 0; index < few.length; index += 2)
        text += `${prefix}${few[index]}: ${few[index + 1]}\r\n`;
    }
    return text;
  }

  protected override build(): Headers {
    const headers = new Headers();
    const few = this.#few;
    for (let index = 0; index < few.length; index += 2) {
      headers.set(few[index] as string, few[index + 1] as string);
    }
    this.#few = [];
    return headers;
  }

  #indexOf(name: string): number {
    const few = this.#few;
    for (let index = 0; index < few.length; index += 2) if (few[index] === name) return index;
    return -1;
  }
}

/** What `Headers` takes and HTTP does not. */
const unwritable = /[^\t\x20-\x7e\x80-\xff]/;

/** Anything else, and cookies, which do not join in one line, is left to `Headers`. */
function isPlain(name: string, value: string): boolean {
  return plainName.test(name) && plainValue.test(value) && name !== "set-cookie";
}

/** Cookies come as several entries of the same name. */
function put(target: OutgoingHttpHeaders, name: string, value: string): void {
  const there = target[name];
  if (there === undefined) target[name] = value;
  else target[name] = Array.isArray(there) ? [...there, value] : [String(there), value];
}
