import { setTimeout as sleep } from "node:timers/promises";
import type Dockerode from "dockerode";
import { CannotStart, type ContainerSpec } from "../runtime.ts";

interface Fetch {
  state: "running" | "failed";
  error: string;
  attempts: number;
  /** From then on a failed fetch is tried again, milliseconds since 1970. */
  againAt: number;
}

/** For how long a caller waits for a fetch that may be short; then it is told to look again. */
const patienceMs = 300;
const retry = { firstMs: 5_000, maxMs: 300_000 };

/** Fetches images, each once at a time, without keeping anyone waiting. */
export function createImages(docker: Dockerode, onFetched: (functionId: string) => void) {
  const fetches = new Map<string, Fetch>();
  /** Seen in the engine; an image that is removed there is noticed when a container is made. */
  const present = new Set<string>();

  const pull = async ({ image, registry, functionId }: ContainerSpec, fetch: Fetch) => {
    try {
      const authconfig = registry && {
        username: registry.username,
        password: registry.password,
        serveraddress: image.includes("/") ? (image.split("/")[0] ?? "") : "https://index.docker.io/v1/",
      };
      const stream = await docker.pull(image, authconfig ? { authconfig } : {});
      await new Promise<void>((done, fail) => {
        docker.modem.followProgress(stream, (error: Error | null) => (error ? fail(error) : done()));
      });
      fetches.delete(image);
    } catch (error) {
      fetch.state = "failed";
      fetch.error = (error as Error).message;
      fetch.againAt = Date.now() + Math.min(retry.firstMs * 2 ** (fetch.attempts - 1), retry.maxMs);
    }
    onFetched(functionId);
  };

  return {
    /** Resolves when the image is there. Rejects with CannotStart. */
    async ensure(spec: ContainerSpec): Promise<void> {
      const { image } = spec;
      if (present.has(image)) return;
      if (await isThere(docker, image)) {
        present.add(image);
        return;
      }
      const known = fetches.get(image);
      if (known?.state === "failed" && Date.now() < known.againAt) throw cannotFetch(image, known);
      if (known?.state !== "running") {
        const fetch = {
          state: "running",
          error: "",
          attempts: (known?.attempts ?? 0) + 1,
          againAt: 0,
        } as const;
        const started: Fetch = { ...fetch };
        fetches.set(image, started);
        await Promise.race([pull(spec, started), sleep(patienceMs, undefined, { ref: false })]);
        if (started.state === "failed") throw cannotFetch(image, started);
        if (!fetches.has(image)) return;
      }
      throw new CannotStart(`the image '${image}' is being fetched`, { wait: true });
    },
    forget(image: string): void {
      present.delete(image);
    },
  };
}

async function isThere(docker: Dockerode, image: string): Promise<boolean> {
  try {
    await docker.getImage(image).inspect();
    return true;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return false;
    throw error;
  }
}

function cannotFetch(image: string, { error }: Fetch): CannotStart {
  return new CannotStart(
    `the image '${image}' cannot be fetched (${error.trim()}); check its name, or give registry_credentials`,
    { wait: false },
  );
}
