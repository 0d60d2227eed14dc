/** Generates code from the contract. Run it after every change under `proto/`. */
import { execFileSync } from "node:child_process";
import { writeComments } from "./comments.ts";
import { layOutProtoDeps } from "./proto-deps.ts";

/** Writes the generated code of server and SDK below `folder`. The dependencies must have been laid out. */
export function generate(folder: string): void {
  for (const template of ["server/buf.gen.yaml", "sdk/buf.gen.yaml"]) {
    execFileSync("buf", ["generate", "--template", template, "--output", folder], { stdio: "inherit" });
  }
  writeComments(folder);
}

if (import.meta.main) {
  layOutProtoDeps();
  generate(".");
}
