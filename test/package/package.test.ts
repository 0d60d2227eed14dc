/** The SDK as a stranger gets it: packed, installed from its tarball into an empty project, and run on every Node. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { createClient } from "../../sdk/src/index.ts";
import { startTestServer, type TestServer } from "../helpers/server.ts";
import { createProject, type Project } from "./project.ts";
import { snippetsOf } from "./snippets.ts";

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "../..");

let project: Project;
let server: TestServer;
let storeId: string;
const undo = new AsyncDisposableStack();

before(async () => {
  const [made, started] = await Promise.allSettled([createProject(), startTestServer()]);
  if (made.status === "fulfilled") project = undo.use(made.value);
  if (started.status === "fulfilled") server = undo.use(started.value);
  for (const each of [made, started]) if (each.status === "rejected") throw each.reason;
  using client = createClient({ endpoint: server.url, apiKey: server.tenant.apiKey });
  storeId = (await client.metrics.createStore({ name: "packed" })).store?.id ?? "";
});
after(() => undo.disposeAsync());

const settings = () => ({ ENDPOINT: server.url, API_KEY: server.tenant.apiKey, STORE: storeId });

/** What each kind of program does with the package: a unary call, a gateway, a stream, an error, by its imports. */
const program = (imports: string) => `${imports}
async function main() {
  const { ENDPOINT: endpoint = "", API_KEY: apiKey = "", STORE: storeId = "" } = process.env;
  const client = createClient({ endpoint, apiKey });
  const gateway = createGateway({ endpoint, apiKey, storeId });
  const eventId = "packed-" + process.version + "-" + Math.random();
  gateway.event({ eventId, eventType: "packed", severity: Severity.WARNING, payload: { node: process.version } });
  gateway.metric("packed", 1.5, { labels: { node: process.version } });
  const { accepted } = await gateway.close();
  const { event } = await client.ingestion.getEvent({ eventId });
  let followed = 0;
  for await (const { events } of follow(client.ingestion.watchEvents, { backlog: 1 })) {
    followed += events.length;
    if (followed > 0) break;
  }
  const error = await client.ingestion.getEvent({ eventId: "none" }).catch((error: unknown) => error);
  const reason = error instanceof PulsewireError ? error.reason : "";
  const web = createWebClient({ endpoint, apiKey });
  const found = await web.metrics.getStore({ storeId });
  client.close();
  web.close();
  const alone = createAlone({ endpoint, apiKey });
  alone.event({ eventType: "packed_alone" });
  const { accepted: sent } = await alone.close();
  console.log(JSON.stringify({ accepted: accepted + sent, payload: event?.event?.payload, followed, reason, name: found.store?.name }));
}
main();
`;
const esm = `import { createClient, createGateway, follow, PulsewireError } from "@pulsewire/sdk";
import { createClient as createWebClient } from "@pulsewire/sdk/web";
import { Severity } from "@pulsewire/sdk/proto/ingestion";
import { createGateway as createAlone } from "@pulsewire/sdk/gateway";
`;
const cjs = `const { createClient, createGateway, follow, PulsewireError } = require("@pulsewire/sdk");
const { createClient: createWebClient } = require("@pulsewire/sdk/web");
const { Severity } = require("@pulsewire/sdk/proto/ingestion");
const { createGateway: createAlone } = require("@pulsewire/sdk/gateway");
`;
const untyped = (code: string) => code.replace("(error: unknown)", "(error)");

test("ESM, CommonJS and TypeScript as either run on every Node that is maintained", async () => {
  await Promise.all([
    project.write("program.mjs", untyped(program(esm))),
    project.write("program.cjs", untyped(program(cjs))),
    project.write("typed-esm.mts", program(esm)),
    project.write("typed-cjs.cts", program(esm)),
  ]);
  await project.compile(["typed-esm.mts", "typed-cjs.cts"]);
  assert.match(
    await readFile(path.join(project.folder, "typed-cjs.cjs"), "utf8"),
    /require\("@pulsewire\/sdk"\)/,
  );
  const [oldest] = project.nodes.keys();
  for (const version of project.nodes.keys()) {
    const compiled = version === oldest ? ["typed-esm.mjs", "typed-cjs.cjs"] : [];
    for (const file of ["program.mjs", "program.cjs", ...compiled]) {
      const answer = JSON.parse(await project.run(file, version, settings()));
      assert.match(answer.payload.node, new RegExp(`^v${version}\\.`));
      const expected = {
        accepted: 3,
        payload: answer.payload,
        followed: 1,
        reason: "NOT_FOUND",
        name: "packed",
      };
      assert.deepEqual(answer, expected, `${file} on Node ${version}`);
    }
  }
});

test("wrong use does not compile", async () => {
  await project.write(
    "wrong.mts",
    `import { createClient, follow, type Reason } from "@pulsewire/sdk";
const client = createClient({ endpoint: "http://localhost" });
// @ts-expect-error: a reason that is not documented
const reason: Reason = "NO_SUCH_REASON";
// @ts-expect-error: a field that the request does not have
client.metrics.listStores({ nameContain: "x" });
// @ts-expect-error: a method that has no cursor
follow(client.metrics.listStores, {});
// @ts-expect-error: of another protocol
createClient({ endpoint: "", protocol: "soap" });
console.log(reason);
`,
  );
  await project.compile(["wrong.mts"]);
});

test("every snippet of the README is right and runs, on the oldest Node", async (t) => {
  const { email, password, slug, apiKey, token } = server.tenant;
  using client = createClient({ endpoint: server.url, apiKey });
  await client.ingestion.ingestEvent({ event: { eventType: "shop_closed" } });
  const snippets = snippetsOf(path.join(root, "sdk/README.md"), {
    "http://localhost:8080": server.url,
    "evp_…": apiKey,
    "0198f0c2-…": storeId,
    "/var/lib/till-7/pulsewire": path.join(project.folder, `spool-${randomUUID()}`),
    'email: "me@example.com", password: "…", tenantSlug: "acme"': `email: "${email}", password: "${password}", tenantSlug: "${slug}"`,
  });
  assert.ok(snippets.length >= 6);
  const files = await Promise.all(
    snippets.map((code, index) => project.write(`snippet-${index}.mts`, code).then(() => `snippet-${index}`)),
  );
  await project.compile(files.map((file) => `${file}.mts`));
  for (const [index, file] of files.entries()) {
    await t.test(`snippet ${index + 1}: ${snippets[index]?.split("\n")[0]}`, async () => {
      await project.run(`${file}.mjs`, [...project.nodes.keys()][0], { ID_TOKEN: token });
    });
  }
  const names: string[] = [];
  for (const eventType of ["order_paid", "page_viewed"]) {
    const { events } = await client.ingestion.listEvents({ filter: { eventTypes: [eventType] } });
    names.push(...events.map(({ event }) => event?.eventType ?? ""));
  }
  assert.deepEqual(names, ["order_paid", "page_viewed"]);
});

test("the command line runs from its tarball, too, on every Node", async () => {
  const command = path.join(project.folder, "node_modules/.bin/pulsewire");
  const env = {
    PULSEWIRE_ENDPOINT: server.url,
    PULSEWIRE_API_KEY: server.tenant.apiKey,
    HOME: project.folder,
  };
  for (const node of project.nodes.values()) {
    const { stdout } = await run(node, [command, "stores", "--name", "packed", "--json"], { env });
    assert.equal(JSON.parse(stdout).id, storeId);
  }
});

describe("the tarball", () => {
  const manifest = async () =>
    JSON.parse(await readFile(path.join(project.folder, "node_modules/@pulsewire/sdk/package.json"), "utf8"));

  test("needs nothing but Connect and Protobuf, and can be published with provenance", async () => {
    const { dependencies, peerDependencies, sideEffects, publishConfig, repository, license } =
      await manifest();
    assert.deepEqual(Object.keys(dependencies), [
      "@bufbuild/protobuf",
      "@connectrpc/connect",
      "@connectrpc/connect-node",
      "@connectrpc/connect-web",
    ]);
    assert.equal(peerDependencies, undefined);
    assert.equal(sideEffects, false);
    assert.deepEqual(publishConfig, { access: "public", provenance: true });
    assert.equal(repository.directory, "sdk");
    assert.equal(license, "Apache-2.0");
    const { stdout } = await run("tar", ["-tzf", project.tarballs.sdk]);
    const outside = stdout
      .split("\n")
      .filter(
        (name) => name && !/^package\/(dist|src)\/|^package\/(package\.json|README\.md|LICENSE)$/.test(name),
      );
    assert.deepEqual(outside, []);
  });

  test("is what publint and attw want", async () => {
    const tool = (name: string, ...args: string[]) =>
      run(path.join(root, "node_modules/.bin", name), args).catch((error) => {
        throw new Error(`${name}:\n${error.stdout}${error.stderr}`);
      });
    for (const tarball of Object.values(project.tarballs)) await tool("publint", "run", tarball, "--strict");
    const entries = ["auth", "common", "functions", "ingestion", "metrics", "progress", "webhooks"];
    await tool(
      "attw",
      ...[project.tarballs.sdk, "--profile", "node16"],
      ...["--include-entrypoints", ...entries.map((name) => `./proto/${name}`)],
    );
  });

  test("has a reference: TypeDoc finds everything documented that is exported", async () => {
    const typedoc = path.join(root, "scripts/typedoc/node_modules/typedoc/bin/typedoc");
    const out = path.join(project.folder, "docs");
    await run(process.execPath, [typedoc, "--options", "sdk/typedoc.json", "--out", out], {
      cwd: root,
    }).catch((error) => {
      throw new Error(`typedoc:\n${error.stdout}${error.stderr}`);
    });
    assert.match(await readFile(path.join(out, "functions/index.follow.html"), "utf8"), /without gap/);
  });
});

describe("bundlers", () => {
  const browser = { platform: "browser" } as const;

  /** A program bundled for browsers as an app would, all dependencies included. */
  async function bundle(
    code: string,
    runtime: { platform: "browser" | "neutral"; conditions?: string[] } = browser,
  ) {
    const { outputFiles, metafile } = await build({
      stdin: { contents: code, resolveDir: project.folder, loader: "js" },
      bundle: true,
      minify: true,
      format: "esm",
      ...runtime,
      write: false,
      metafile: true,
      logLevel: "error",
    });
    const [file] = outputFiles;
    assert.ok(file);
    return {
      text: file.text,
      kB: gzipSync(file.contents).length / 1000,
      inputs: Object.keys(metafile.inputs),
    };
  }

  for (const condition of ["browser", "workerd", "edge-light"]) {
    test(`for ${condition} take the build over fetch, without anything of Node`, async () => {
      const { inputs } = await bundle('export { createGateway } from "@pulsewire/sdk";', {
        platform: "neutral",
        conditions: [condition, "import"],
      });
      assert.ok(inputs.some((input) => input.endsWith("@pulsewire/sdk/dist/web.js")));
      assert.ok(
        !inputs.some((input) => /connect-node|^node:|sdk\/dist\/index\.js/.test(input)),
        inputs.join("\n"),
      );
    });
  }

  test("leave out what is not used", async () => {
    const sizes: Record<string, number> = {};
    for (const [name, code] of Object.entries({
      nothing: 'import "@pulsewire/sdk";',
      small: 'export { uuidv7, backoffMs, PulsewireError } from "@pulsewire/sdk/web";',
      messages: 'export { EventSchema } from "@pulsewire/sdk/proto/ingestion";',
      gateway: 'export { createGateway } from "@pulsewire/sdk";',
      client: 'export { createClient } from "@pulsewire/sdk";',
      everything: 'export * from "@pulsewire/sdk";',
    })) {
      const { kB, text } = await bundle(code);
      sizes[name] = Math.round(kB * 10) / 10;
      if (name === "gateway") assert.doesNotMatch(text, /connectrpc|bufbuild|DescriptorProto/);
      if (name === "messages") assert.doesNotMatch(text, /pulsewire\.metrics|MetricsService/);
    }
    console.log("min+gzip, kB:", sizes);
    const { nothing = 99, small = 99, gateway = 99, messages = 99, client = 99, everything = 99 } = sizes;
    assert.ok(nothing < 0.1, `nothing: ${nothing}`);
    assert.ok(small < 2, `small: ${small}`);
    assert.ok(gateway < 25, `gateway: ${gateway}`);
    assert.ok(messages < everything / 2, `messages: ${messages} of ${everything}`);
    assert.ok(client < everything, `client: ${client} of ${everything}`);
  });
});
