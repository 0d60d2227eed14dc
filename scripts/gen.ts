/** Generates code from the contract. Run it after every change under `proto/`. */
import { execFileSync } from "node:child_process";
import { layOutProtoDeps } from "./proto-deps.ts";

layOutProtoDeps();
for (const template of ["server/buf.gen.yaml", "sdk/buf.gen.yaml"]) {
  execFileSync("buf", ["generate", "--template", template], { stdio: "inherit" });
}
