import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { createProcessEngine } from "../server/src/functions/runtime/process/engine.ts";
import { createSlotRuntime } from "../server/src/functions/runtime/slots.ts";
import { describeRuntime } from "./helpers/runtime-contract.ts";

describeRuntime("process", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "pulsewire-processes-"));
  const open = (installation: string) =>
    createSlotRuntime(createProcessEngine(folder, installation, process.env.PATH ?? ""), installation);
  return {
    runtime: open("own"),
    foreign: open("foreign"),
    image: "none",
    async kill({ id }) {
      const { pid } = JSON.parse(await readFile(path.join(folder, "own", id, "started.json"), "utf8"));
      process.kill(pid, "SIGKILL");
    },
    patienceMs: 20_000,
    lacks: ["unknown image"],
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
});
