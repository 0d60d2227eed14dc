import { type Command, globalOptions, type Option } from "./command.ts";

/** What `--help` prints. */
export function helpOf(command: Command, path: readonly string[]): string {
  const { subcommands = [], operands, details, examples = [], options = {}, fallback } = command;
  const name = path.join(" ");
  const usage = subcommands.length > 0 ? `${name} COMMAND` : [name, operands].filter(Boolean).join(" ");
  const parts = [`${sentence(command.summary)}\n\nUsage: ${usage} [options]\n`];
  if (details) parts.push(`${details.trim()}\n`);
  if (subcommands.length > 0) {
    const rows = subcommands.map(({ name, operands = "", summary }) => [
      [name, operands].filter(Boolean).join(" "),
      name === fallback ? `${summary} (the default)` : summary,
    ]);
    parts.push(`Commands:\n${columns(rows)}`);
  }
  if (Object.keys(options).length > 0) parts.push(`Options:\n${columns(optionRows(options))}`);
  parts.push(
    `${Object.keys(options).length > 0 ? "Everywhere" : "Options"}:\n${columns(optionRows(globalOptions))}`,
  );
  if (examples.length > 0) parts.push(`Examples:\n${examples.map((example) => `  ${example}\n`).join("")}`);
  return parts.join("\n");
}

function optionRows(options: Readonly<Record<string, Option>>): string[][] {
  return Object.entries(options).map(([name, { short, value, help, multiple, type }]) => {
    const word = type === "string" ? ` ${value ?? "TEXT"}` : "";
    return [`${short ? `-${short}, ` : ""}--${name}${word}`, multiple ? `${help}; can be repeated` : help];
  });
}

function columns(rows: string[][]): string {
  const width = Math.max(...rows.map(([first = ""]) => first.length));
  return rows.map(([first = "", second]) => `  ${first.padEnd(width)}  ${second}\n`).join("");
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
