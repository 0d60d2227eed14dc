import { parseArgs } from "node:util";
import type { PulsewireClient } from "@pulsewire/sdk";
import { exitCodes, Failure } from "./failure.ts";
import type { Io } from "./io.ts";
import type { Target } from "./target.ts";

/** An option of a command. */
export interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** What its value is called in the help. */
  readonly value?: string;
  readonly help: string;
  /** All values that it may have, for completion. */
  readonly values?: readonly string[];
}

/** A command, or a group of them. */
export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** What stands behind the name, such as `FUNCTION`. */
  readonly operands?: string;
  /** Most operands; default 0. */
  readonly maxOperands?: number;
  /** All values of the first operand, for completion. */
  readonly operandValues?: readonly string[];
  /** Paragraphs below the usage. */
  readonly details?: string;
  readonly examples?: readonly string[];
  readonly options?: Readonly<Record<string, Option>>;
  readonly subcommands?: readonly Command[];
  /** Name of the subcommand where none is given. */
  readonly fallback?: string;
  /** @returns an exit code, where it is not 0 */
  run?(call: Call): Promise<number | undefined>;
}

/** Options of every command. */
export const globalOptions: Readonly<Record<string, Option>> = {
  endpoint: { type: "string", value: "URL", help: "the server, instead of the one signed in to" },
  "api-key": {
    type: "string",
    value: "KEY",
    help: "an API key, instead of the credentials of `pulsewire login`",
  },
  json: { type: "boolean", help: "print JSON: one object, or one a line where there are many" },
  help: { type: "boolean", short: "h", help: "show this" },
};

/** One run of a command. */
export interface Call {
  readonly io: Io;
  readonly args: Args;
  readonly json: boolean;
  /** Who is called, and as whom. */
  target(): Promise<Target>;
  /** A client of it, closed at the end. */
  open(): Promise<PulsewireClient>;
}

type Value = string | boolean | (string | boolean)[] | undefined;

/** The arguments of a command, by type. */
export class Args {
  readonly operands: readonly string[];
  readonly #values: Readonly<Record<string, Value>>;

  constructor(values: Readonly<Record<string, Value>>, operands: readonly string[]) {
    this.#values = values;
    this.operands = operands;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === "string" ? value : undefined;
  }

  list(name: string): string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.filter((each) => typeof each === "string") : [];
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  /** A whole number within bounds. */
  number(name: string, least: number, most: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = Number(text);
    if (text.trim() !== "" && Number.isInteger(value) && value >= least && value <= most) return value;
    throw new Failure(
      `--${name} is ${text}; it must be a whole number from ${least} to ${most}.`,
      exitCodes.usage,
    );
  }

  /** One of some words. */
  choice<T extends string>(name: string, words: readonly T[]): T | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const found = words.find((word) => word === text);
    if (found === undefined)
      throw new Failure(`--${name} is ${text}; it must be one of ${words.join(", ")}.`, exitCodes.usage);
    return found;
  }

  /** An operand that must be there. */
  operand(index: number, what: string): string {
    const value = this.operands[index];
    if (!value) throw new Failure(`${what} is missing. See --help.`, exitCodes.usage);
    return value;
  }
}

/** Reads the arguments of a command. Throws what node:util throws, and Failure. */
export function parse(command: Command, args: string[]): Args {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: Object.fromEntries(
      Object.entries({ ...globalOptions, ...command.options }).map(([name, { type, short, multiple }]) => [
        name,
        { type, ...(short && { short }), ...(multiple && { multiple }) },
      ]),
    ),
  });
  const most = command.maxOperands ?? 0;
  const surplus = positionals[most];
  if (surplus !== undefined)
    throw new Failure(`"${surplus}" is one argument too many. See --help.`, exitCodes.usage);
  return new Args(values, positionals);
}
