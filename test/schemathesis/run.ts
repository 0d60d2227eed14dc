/**
 * schemathesis against the server's own OpenAPI document, with all its checks: `npm run test:schemathesis`
 * [-- --examples 100] [--stateful: and sequences of calls, some minutes more]. Needs Python 3, to install the tool once.
 *
 * That whatever fits the schema is accepted is not asked of operations whose rules a schema cannot say; see `unsayable`.
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
/** Bodies in protobuf, which other tests send. */
const binary = ["PrometheusRemoteWrite", "OtlpMetrics", "OtlpLogs"];
/** Rules that no schema says: of operations with one of these fields, … */
const unsayableFields = /^(page_?token|cursor|update_?mask|sent_?at)$/i;
/** … and of these. */
const unsayable: Readonly<Record<string, string>> = {
  AuthService_CreateApiKey: "expires_at lies in the future",
  AuthService_CreateApiKey_2: "expires_at lies in the future",
  AuthService_CreateApiKey_3: "expires_at lies in the future",
  AuthService_RecoverPassword: "no password that is tried first",
  AuthService_CreateIdentityProvider: "the issuer answers with its keys",
  MetricsService_AcknowledgeAlert: "until lies in the future",
  MetricsService_CreateStore: "the expected interval is 1 s to 7 days",
  MetricsService_CreateStore_2: "the expected interval is 1 s to 7 days",
  MetricsService_QuerySamples_2: "start lies before end",
  FunctionsService_CreateFunction: "durations have bounds",
  FunctionsService_InvokeFunction: "durations have bounds",
  FunctionsService_WaitInvocation: "at most 60 s",
  WebhooksService_CreateWebhook: "no address of a private network",
};

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

interface Operation {
  readonly operationId?: string;
  readonly parameters?: readonly { readonly name: string }[];
  readonly requestBody?: object;
}

/** The operations of the document whose rules its schemas cannot say. */
async function unsayableIn(url: string): Promise<string[]> {
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as {
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, object> };
  };
  const schemaText = ({ requestBody }: Operation) => {
    const text = JSON.stringify(requestBody ?? {});
    const [, name = ""] = /"#\/components\/schemas\/(\w+)"/.exec(text) ?? [];
    return text + JSON.stringify(document.components.schemas[name] ?? {});
  };
  const operations = Object.values(document.paths).flatMap((item) => Object.values(item));
  const known = new Set(operations.map(({ operationId }) => operationId));
  for (const id of Object.keys(unsayable)) if (!known.has(id)) throw new Error(`there is no operation ${id}`);
  return operations
    .filter((operation) => {
      const fields = [...schemaText(operation).matchAll(/"(\w+)":/g)].map(([, name = ""]) => name);
      const names = [...fields, ...(operation.parameters ?? []).map(({ name }) => name)];
      return (operation.operationId ?? "") in unsayable || names.some((name) => unsayableFields.test(name));
    })
    .flatMap(({ operationId }) => operationId ?? []);
}

const { values } = parseArgs({
  options: {
    examples: { type: "string", default: "100" },
    seed: { type: "string" },
    stateful: { type: "boolean", default: false },
  },
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
  const settings = [
    "[auth.openapi]",
    `apiKey = { api_key = "${apiKey}" }`,
    "[checks]",
    // 431: a query may fit the schema and be longer than a server reads.
    'positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "429", "431"]',
    "[[operations]]",
    `include-operation-id = ${JSON.stringify(await unsayableIn(server.url))}`,
    "checks.positive_data_acceptance.enabled = false",
  ];
  await writeFile(config, settings.join("\n"));
  const run = spawn(
    tool,
    [
      "--config-file",
      config,
      "run",
      `${server.url}/openapi.json`,
      `--exclude-path-regex=${endless}`,
      ...[...suicidal, ...binary].map((id) => `--exclude-operation-id=${id}`),
      `--phases=examples,coverage,fuzzing${values.stateful ? ",stateful" : ""}`,
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
