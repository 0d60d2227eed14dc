import { createDockerEngine } from "../../server/src/functions/runtime/docker/engine.ts";
import { createSlotRuntime } from "../../server/src/functions/runtime/slots.ts";
import { startDockerEngine, testImage } from "../helpers/docker-engine.ts";
import { describeRuntime } from "../helpers/runtime-contract.ts";

describeRuntime("docker", async () => {
  const engine = await startDockerEngine();
  const config = { dockerHost: engine.host, dockerNetwork: "tenant", logBufferBytes: 512 * 1024 * 1024 };
  const open = (installation: string) =>
    createSlotRuntime(createDockerEngine(config, installation), installation);
  return {
    runtime: open("own"),
    foreign: open("foreign"),
    image: testImage,
    kill: ({ id }) => engine.docker.getContainer(id).kill(),
    patienceMs: 30_000,
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
});
