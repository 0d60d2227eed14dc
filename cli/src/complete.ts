import { type Command, globalOptions } from "./command.ts";

/**
 * The words that may stand where the last one is being written, one a line, with what they mean behind a tab. None:
 * the shell offers files.
 */
export function complete(root: Command, words: readonly string[]): string {
  const current = words.at(-1) ?? "";
  let command = root;
  let operands = 0;
  let pending: string | undefined;
  for (const word of words.slice(0, -1)) {
    if (pending !== undefined) {
      pending = undefined;
      continue;
    }
    const next = operands === 0 ? command.subcommands?.find(({ name }) => name === word) : undefined;
    if (next) command = next;
    else if (word.startsWith("-")) pending = takesValue(command, word);
    else operands++;
  }
  return candidates(command, current, operands, pending)
    .filter(([word]) => word.startsWith(current))
    .map(([word, help]) => (help ? `${word}\t${help}\n` : `${word}\n`))
    .join("");
}

function candidates(
  command: Command,
  current: string,
  operands: number,
  pending: string | undefined,
): [word: string, help?: string][] {
  const options = optionsOf(command);
  if (pending !== undefined) return (options[pending]?.values ?? []).map((value) => [value]);
  if (current.startsWith("-")) return Object.entries(options).map(([name, { help }]) => [`--${name}`, help]);
  if (operands > 0) return [];
  return [
    ...(command.subcommands ?? []).map(({ name, summary }): [string, string] => [name, summary]),
    ...(command.operandValues ?? []).map((value): [string] => [value]),
  ];
}

function optionsOf(command: Command) {
  const fallback = command.subcommands?.find(({ name }) => name === command.fallback);
  return { ...fallback?.options, ...command.options, ...globalOptions };
}

/** The name of the option where the next word is its value. */
function takesValue(command: Command, word: string): string | undefined {
  if (word.includes("=")) return undefined;
  const found = Object.entries(optionsOf(command)).find(
    ([name, { short }]) => word === `--${name}` || (short && word === `-${short}`),
  );
  return found?.[1].type === "string" ? found[0] : undefined;
}
