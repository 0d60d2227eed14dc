import { once } from "node:events";
import { copyFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { build } from "esbuild";

/** A site of its own origin, with one page that has the client in it. */
export interface Site extends AsyncDisposable {
  readonly origin: string;
}

/** The script of the page: page.ts with the SDK, as a bundler of an app would make it. */
export async function bundlePage(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [path.join(import.meta.dirname, "page.ts")],
    bundle: true,
    format: "esm",
    platform: "browser",
    conditions: ["pulsewire-source"],
    write: false,
    logLevel: "warning",
  });
  return outputFiles[0]?.text ?? "";
}

/** The script of a page that lies in a project with packages of its own; what these need is found in the repository. */
export async function bundleIn(project: string, page: string): Promise<{ script: string; inputs: string[] }> {
  const entry = path.join(project, path.basename(page));
  await copyFile(page, entry);
  const { outputFiles, metafile } = await build({
    entryPoints: [entry],
    bundle: true,
    format: "esm",
    platform: "browser",
    nodePaths: [path.join(import.meta.dirname, "../../node_modules")],
    write: false,
    metafile: true,
    logLevel: "warning",
  });
  return { script: outputFiles[0]?.text ?? "", inputs: Object.keys(metafile.inputs) };
}

export async function startSite(script: string): Promise<Site> {
  const pages: Record<string, [type: string, body: string]> = {
    "/": [
      "text/html",
      '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>',
    ],
    "/page.js": ["text/javascript", script],
  };
  const server = createServer((request, response) => {
    const [type, body] = pages[request.url ?? ""] ?? ["text/plain", "not found"];
    response.writeHead(body === "not found" ? 404 : 200, { "content-type": `${type}; charset=utf-8` });
    response.end(body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
