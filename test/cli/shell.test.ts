/** Help, errors, and completion in real shells; nothing here needs a server. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import type { Command } from "../../cli/src/command.ts";
import { root } from "../../cli/src/commands.ts";
import { createPerson, main, type Person } from "./cli.ts";

let person: Person;
before(async () => {
  person = await createPerson();
  const command = path.join(person.home, "pulsewire");
  await writeFile(command, `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`);
  await chmod(command, 0o755);
});
after(() => person[Symbol.asyncDispose]());

test("every command has help that names its options, and says what it does", async () => {
  const paths: string[][] = [];
  const walk = (command: Command, names: string[]) => {
    paths.push(names);
    for (const each of command.subcommands ?? []) walk(each, [...names, each.name]);
  };
  walk(root, []);
  assert.ok(paths.length > 20);
  const { helpOf } = await import("../../cli/src/help.ts");
  for (const names of paths) {
    const command = names.reduce<Command | undefined>(
      (found, name) => found?.subcommands?.find((each) => each.name === name),
      root,
    );
    assert.ok(command);
    const help = helpOf(command, ["pulsewire", ...names]);
    for (const option of Object.keys(command.options ?? {})) assert.match(help, new RegExp(`--${option}`));
    for (const line of help.split("\n")) assert.ok(line.length <= 150, line);
  }
  const { code, stdout } = await person.run(["alerts", "ack", "--help"]);
  assert.equal(code, 0);
  assert.match(
    stdout,
    /^Says that somebody is at an alert\.\n\nUsage: pulsewire alerts ack ID \[options\]\n/,
  );
});

test("wrong arguments end with code 2 and say what is right", async () => {
  for (const [args, expected] of [
    [[], /^Sends events to Pulsewire and shows what is there\./],
    [["nonsense"], /There is no command "nonsense"\. There are: login, logout, send, /],
    [
      ["alerts", "nonsense"],
      /There is no command "nonsense"\. There are: list, watch, get, ack\. See pulsewire alerts --help/,
    ],
    [["tail", "--nonsense"], /Unknown option '--nonsense'\. See pulsewire tail --help\./],
    [["tail", "extra", "--api-key", "k"], /"extra" is one argument too many/],
    [["tail", "--limit", "x", "--api-key", "k"], /--limit is x; it must be a whole number from 1 to /],
    [["stores", "--endpoint", "nowhere", "--api-key", "k"], /The endpoint "nowhere" is no address such as/],
    [["stores", "get", "--api-key", "k"], /ID is missing/],
    [["completion", "tcsh"], /One of bash, zsh, fish/],
  ] as const) {
    const { code, stderr } = await person.run(args);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
  }
  const away = await person.run(["stores", "--endpoint", "http://127.0.0.1:9", "--api-key", "k", "--json"]);
  assert.equal(away.code, 5);
  assert.match(JSON.parse(away.stderr).error.message, /The server does not answer .* Is it running\?/);
  assert.match((await person.run(["--version"])).stdout, /^\d+\.\d+\.\d+\n$/);
});

describe("completion", () => {
  /** Runs a script in a shell with `pulsewire` in PATH. */
  function shell(name: string, ...args: string[]): string {
    const { stdout, stderr, error, status } = spawnSync(name, args, {
      cwd: person.home,
      env: { ...person.env, PATH: `${person.home}:${person.env.PATH}`, XDG_CONFIG_HOME: person.home },
      encoding: "utf8",
      timeout: 30_000,
    });
    if (error) throw error;
    assert.equal(status, 0, stderr);
    return stdout;
  }
  const cases = [
    { words: ["a"], found: ["alerts"] },
    { words: ["alerts", "a"], found: ["ack"] },
    { words: ["tail", "--sev"], found: ["--severity"] },
    { words: ["tail", "--severity", "c"], found: ["critical"] },
  ];

  test("bash", () => {
    for (const { words, found } of cases) {
      const line = ["pulsewire", ...words];
      const script = `source <(pulsewire completion bash); COMP_WORDS=(${line.join(" ")}); COMP_CWORD=${line.length - 1}; _pulsewire; printf '%s\\n' "\${COMPREPLY[@]}"; complete -p pulsewire >&2`;
      assert.deepEqual(shell("bash", "--norc", "-c", script).trim().split("\n"), found);
    }
  });

  test("zsh", () => {
    for (const { words, found } of cases) {
      // compadd outside of a completion is an error: what would be offered is printed instead.
      const script = `compdef() { :; }; _describe() { print -l -- "\${(@P)2%%:*}"; }; _files() { print FILES; }; source <(pulsewire completion zsh); words=(pulsewire ${words.join(" ")}); CURRENT=${words.length + 1}; _pulsewire`;
      assert.deepEqual(shell("zsh", "-f", "-c", script).trim().split("\n"), found);
    }
  });

  test("fish", () => {
    for (const { words, found } of cases) {
      const script = `pulsewire completion fish | source; complete -C 'pulsewire ${words.join(" ")}'`;
      const offered = shell("fish", "--no-config", "-c", script).trim().split("\n");
      assert.deepEqual(
        offered.map((line) => line.split("\t")[0]),
        found,
      );
    }
  });
});
