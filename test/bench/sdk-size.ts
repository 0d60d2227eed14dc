/**
 * What the SDK weighs and how long it takes to load, beside OpenTelemetry's logs over OTLP.
 * node test/bench/sdk-size.ts [--rounds n]
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs, promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { pack, unpack } from "../helpers/pack.ts";
import { type BenchResult, type Comparison, printResult, type Spread, show, spreadOf } from "./report.ts";

const run = promisify(execFile);
const root = path.resolve(import.meta.dirname, "../..");

type Platform = "node" | "browser";

interface Library {
  readonly name: string;
  /** The program: all that a sender of events needs. */
  readonly code: string;
  readonly platforms: readonly Platform[];
  /** What is not its own: the transport's and the encoding's libraries. */
  readonly foreign: readonly string[];
}

const logs =
  'export * from "@opentelemetry/api-logs"; export { LoggerProvider, BatchLogRecordProcessor } from "@opentelemetry/sdk-logs"; export { resourceFromAttributes } from "@opentelemetry/resources";';

const ours: Library = {
  name: "@pulsewire/sdk: gateway",
  code: 'export { createGateway } from "@pulsewire/sdk";',
  platforms: ["node", "browser"],
  foreign: ["@bufbuild/protobuf", "@connectrpc/*"],
};
const libraries: readonly Library[] = [
  ours,
  {
    name: "@pulsewire/sdk: gateway and all clients",
    code: 'export { createClient, createGateway, follow, pages } from "@pulsewire/sdk";',
    platforms: ["node", "browser"],
    foreign: ours.foreign,
  },
  {
    name: "@pulsewire/sdk: everything",
    code: 'export * from "@pulsewire/sdk";',
    platforms: ["node", "browser"],
    foreign: ours.foreign,
  },
  {
    name: "OpenTelemetry logs, OTLP proto over HTTP",
    code: `${logs} export { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-proto";`,
    platforms: ["node", "browser"],
    foreign: ["@protobufjs/*", "protobufjs"],
  },
  {
    name: "OpenTelemetry logs, OTLP over gRPC",
    code: `${logs} export { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-grpc";`,
    platforms: ["node"],
    foreign: ["@grpc/*", "@protobufjs/*", "protobufjs"],
  },
];

/** Kilobytes of the minified and gzipped bundle. */
async function weigh(project: string, { code }: Library, platform: Platform, external: readonly string[]) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: project },
    // The packed SDK lies in the project; what it needs, and the others, are those of the repository.
    nodePaths: [path.join(root, "node_modules")],
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    platform,
    external: [...external],
    write: false,
    logLevel: "error",
  });
  return gzipSync(outputFiles[0]?.contents ?? new Uint8Array()).length / 1000;
}

/** Milliseconds from the import to its end, in a process of its own. */
async function load(program: string): Promise<number> {
  const { stdout } = await run(process.execPath, [program]);
  return Number(stdout);
}

export async function sdkSizeBench({ rounds }: { rounds: number }): Promise<BenchResult> {
  const project = await mkdtemp(path.join(tmpdir(), "pulsewire-size-"));
  try {
    await unpack(await pack("sdk", project), project, "@pulsewire/sdk");
    return await measure(project, rounds);
  } finally {
    await rm(project, { recursive: true, force: true });
  }
}

async function measure(project: string, rounds: number): Promise<BenchResult> {
  const rows: string[][] = [];
  const figures: Record<string, unknown> = {};
  const weights = new Map<string, number>();
  const programs = new Map<string, string>();
  for (const [index, library] of libraries.entries()) {
    for (const platform of library.platforms) {
      const whole = await weigh(project, library, platform, []);
      const own = await weigh(project, library, platform, library.foreign);
      weights.set(`${library.name} ${platform}`, whole);
      figures[`${library.name}, ${platform}, kB`] = { whole, own };
      rows.push([library.name, platform, show(whole), show(own)]);
    }
    programs.set(library.name, await bundleForLoading(project, library, index));
  }
  const times = new Map<string, number[]>([...programs.keys()].map((name) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [name, program] of programs) {
      const ms = await load(program);
      if (round >= 0) times.get(name)?.push(ms);
    }
  }
  const spreads = new Map([...times].map(([name, all]) => [name, spreadOf(all)]));
  for (const row of rows) {
    const spread = row[1] === "node" ? spreads.get(row[0] ?? "") : undefined;
    row.push(spread ? show(spread.median) : "", spread ? `${show(spread.min)}–${show(spread.max)}` : "");
  }
  return {
    name: "sdk-size",
    title: "Size of what sends events, minified and gzipped, and load time of the bundle",
    columns: ["", "for", "kB", "without foreign code", "load, ms", "spread"],
    rows,
    notes: [
      "Foreign code: Connect and Protobuf-ES; grpc-js and protobufjs. The load time is that of one file for Node.",
    ],
    figures: { sizes: figures, load: Object.fromEntries(spreads) },
    comparisons: compare(weights, spreads),
  };
}

/** One file with everything, and a program that tells how long its import takes. */
async function bundleForLoading(project: string, { code }: Library, index: number): Promise<string> {
  const outfile = path.join(project, `bundle-${index}.mjs`);
  await build({
    stdin: { contents: code, resolveDir: project },
    nodePaths: [path.join(root, "node_modules")],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "node",
    // Some of what is bundled is CommonJS and asks for Node's own modules.
    banner: { js: 'import{createRequire as __r}from"node:module";const require=__r(import.meta.url);' },
    outfile,
    logLevel: "error",
  });
  const program = path.join(project, `load-${index}.mjs`);
  await writeFile(
    program,
    `const begun = performance.now(); await import("./bundle-${index}.mjs"); console.log(performance.now() - begun); process.exit(0);\n`,
  );
  return program;
}

function compare(weights: Map<string, number>, loads: Map<string, Spread>): Comparison[] {
  const exactly = (value = Number.NaN): Spread => ({ median: value, min: value, max: value });
  return libraries.slice(3).flatMap(({ name, platforms }) => [
    ...platforms.map((platform) => ({
      what: `SDK for ${platform}, kB`,
      peer: name,
      ours: exactly(weights.get(`${ours.name} ${platform}`)),
      theirs: exactly(weights.get(`${name} ${platform}`)),
    })),
    {
      what: "SDK, load time, ms",
      peer: name,
      ours: loads.get(ours.name) ?? exactly(),
      theirs: loads.get(name) ?? exactly(),
    },
  ]);
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "15" } } });
  const result = await sdkSizeBench({ rounds: Number(values.rounds) });
  printResult(result);
  const { printComparisons } = await import("./report.ts");
  printComparisons([result]);
}
