import { createClient, type PulsewireClient } from "@pulsewire/sdk";
import { type Call, type Command, parse } from "./command.ts";
import { root } from "./commands.ts";
import { complete } from "./complete.ts";
import { exitCodes, explain } from "./failure.ts";
import { helpOf } from "./help.ts";
import { type Io, write } from "./io.ts";
import { findTarget } from "./target.ts";

/** What shells call for completion: the words behind `pulsewire`, the last one being written. */
const completeWord = "__complete";

/** Runs a command line and gives the exit code. */
export async function run(args: string[], version: string, io: Io): Promise<number> {
  if (args[0] === completeWord) {
    await write(io.stdout, complete(root, args.slice(args[1] === "--" ? 2 : 1)));
    return exitCodes.ok;
  }
  if (args[0] === "--version" || args[0] === "-V") {
    await write(io.stdout, `${version}\n`);
    return exitCodes.ok;
  }
  const { command, path, rest } = find(args);
  const json = args.includes("--json");
  try {
    return await runCommand(command, path, rest, io);
  } catch (error) {
    if (io.signal.aborted) return exitCodes.interrupted;
    const { exitCode, message, ...more } = explain(error, path.join(" "));
    const lines = (more.violations ?? []).map(({ field, description }) => `  ${field}: ${description}\n`);
    const text = json
      ? `${JSON.stringify({ error: { message, exitCode, ...more } })}\n`
      : `pulsewire: ${message}\n${lines.join("")}`;
    await write(io.stderr, text);
    return exitCode;
  }
}

async function runCommand(command: Command, path: string[], rest: string[], io: Io): Promise<number> {
  const asksForHelp = rest.some((word) => word === "--help" || word === "-h");
  if (asksForHelp) {
    await write(io.stdout, helpOf(command, path));
    return exitCodes.ok;
  }
  if (!command.run) {
    const word = rest.find((each) => !each.startsWith("-"));
    if (!word) {
      await write(io.stderr, helpOf(command, path));
      return exitCodes.usage;
    }
    const known = (command.subcommands ?? []).map(({ name }) => name).join(", ");
    await write(
      io.stderr,
      `pulsewire: There is no command "${word}". There are: ${known}. See ${path.join(" ")} --help.\n`,
    );
    return exitCodes.usage;
  }
  const args = parse(command, rest);
  let client: PulsewireClient | undefined;
  const call: Call = {
    io,
    args,
    json: args.flag("json"),
    target: () => findTarget(args, io),
    async open() {
      const { endpoint, credentials } = await findTarget(args, io);
      client ??= createClient({ endpoint, ...credentials, timeoutMs: 30_000 });
      return client;
    },
  };
  try {
    return (await command.run(call)) ?? exitCodes.ok;
  } finally {
    client?.close();
  }
}

/** The command that the first words name. */
function find(args: string[]): { command: Command; path: string[]; rest: string[] } {
  let command = root;
  const path = [root.name];
  let rest = args;
  for (;;) {
    const next = command.subcommands?.find(({ name }) => name === rest[0]);
    if (!next) break;
    command = next;
    path.push(next.name);
    rest = rest.slice(1);
  }
  const fallback = command.subcommands?.find(({ name }) => name === command.fallback);
  const asked =
    rest[0] === undefined || (rest[0].startsWith("-") && rest[0] !== "--help" && rest[0] !== "-h");
  if (fallback && asked) return { command: fallback, path: [...path, fallback.name], rest };
  return { command, path, rest };
}
