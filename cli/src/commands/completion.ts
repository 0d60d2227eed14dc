import type { Command } from "../command.ts";
import { exitCodes, Failure } from "../failure.ts";
import { write } from "../io.ts";

/** What the shells load; each asks the command itself for the words, so that all three offer the same. */
const scripts = {
  bash: `_pulsewire() {
  local IFS=$'\\n'
  COMPREPLY=($(pulsewire __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1))
}
complete -o default -F _pulsewire pulsewire
`,
  zsh: `#compdef pulsewire
_pulsewire() {
  local -a found
  local word help
  while IFS=$'\\t' read -r word help; do
    found+=("\${word//:/\\\\:}:$help")
  done < <(pulsewire __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)
  if (( $#found )); then
    _describe pulsewire found
  else
    _files
  fi
}
compdef _pulsewire pulsewire
`,
  fish: `function __pulsewire_words
  set -l words (commandline -opc) (commandline -ct)
  pulsewire __complete -- $words[2..-1] 2>/dev/null
end
complete -c pulsewire -a '(__pulsewire_words)'
`,
} as const;

const shells = ["bash", "zsh", "fish"] as const;

export const completion: Command = {
  name: "completion",
  operands: "SHELL",
  maxOperands: 1,
  operandValues: shells,
  summary: "prints what makes bash, zsh or fish complete words",
  examples: [
    "pulsewire completion bash >> ~/.bashrc",
    "pulsewire completion zsh >> ~/.zshrc",
    "pulsewire completion fish > ~/.config/fish/completions/pulsewire.fish",
  ],
  async run({ args, io }) {
    const shell = shells.find((name) => name === args.operands[0]);
    if (!shell) throw new Failure(`For which shell? One of ${shells.join(", ")}.`, exitCodes.usage);
    await write(io.stdout, scripts[shell]);
    return undefined;
  },
};
