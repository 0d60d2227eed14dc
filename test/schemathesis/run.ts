/**
 * schemathesis against the server's own OpenAPI document: `npm run test:schemathesis` [-- --examples 100].
 * Needs Python 3, to install the tool once.
 *
 * All its checks, but for one: that whatever fits the schema is accepted. A schema cannot say that a page token is one of ours, that
 * an etag is the latest, that a mask names what the body holds, or that two fields go together.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { startServerProcess } from "../helpers/server-process.ts";

const version = "4.32.5";
const root = path.join(import.meta.dirname, "../..");
const tools = path.join(root, `.cache/tools/schemathesis-${version}`);
const python = process.env.PYTHON ?? "python3";
const timeoutMs = 20 * 60_000;

/** Streams that stay open as long as their reader does. */
const endless = "(:watch|/logs)$";
/** What would end the session or the key that all calls are made with. */
const suicidal = ["AuthService_Logout", "AuthService_ChangePassword"];
/** What asks hosts that the request names, which are not there, and so rightly answers 503. */
const outward = ["AuthService_CreateIdentityProvider"];
/** Bodies in protobuf, which other tests send. */
const binary = ["PrometheusRemoteWrite", "OtlpMetrics", "OtlpLogs"];
const leftOut = ["positive_data_acceptance"];

function install(): string {
  const tool = path.join(tools, "bin/schemathesis");
  if (existsSync(tool)) return tool;
  mkdirSync(path.dirname(tools), { recursive: true });
  execFileSync(python, ["-m", "venv", tools], { stdio: "inherit" });
  execFileSync(path.join(tools, "bin/pip"), ["install", "--quiet", `schemathesis==${version}`], {
    stdio: "inherit",
  });
  return tool;
}

const { values } = parseArgs({
  options: { examples: { type: "string", default: "100" }, seed: { type: "string" } },
});
const tool = install();
const folder = await mkdtemp(path.join(os.tmpdir(), "pulsewire-schemathesis-"));
try {
  await using server = await startServerProcess({
    PULSEWIRE_DATA_DIR: folder,
    PULSEWIRE_AUTH_RATE_LIMIT: "0",
  });
  const { apiKey } = JSON.parse(readFileSync(path.join(folder, "demo.json"), "utf8"));
  const config = path.join(folder, "schemathesis.toml");
  await writeFile(config, `[auth.openapi]\napiKey = { api_key = "${apiKey}" }\n`);
  const run = spawn(
    tool,
    [
      "--config-file",
      config,
      "run",
      `${server.url}/openapi.json`,
      "--checks=all",
      `--exclude-checks=${leftOut.join()}`,
      `--exclude-path-regex=${endless}`,
      ...[...suicidal, ...outward, ...binary].map((id) => `--exclude-operation-id=${id}`),
      "--phases=examples,coverage,fuzzing",
      `--max-examples=${values.examples}`,
      "--request-timeout=20",
      "--continue-on-failure",
      "--warnings=off",
      "--no-color",
      ...(values.seed ? [`--seed=${values.seed}`] : []),
    ],
    { cwd: folder, stdio: "inherit", timeout: timeoutMs },
  );
  const [code] = await once(run, "exit");
  process.exitCode = code ?? 1;
  await server.stop();
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 20, retryDelay: 250 });
}
