import { execFile } from "node:child_process";
import path from "node:path";

const root = path.join(import.meta.dirname, "../..");

/** A tool that run.ts installs where it is not yet. */
export interface GoTool {
  readonly path: string;
  /** Module and version. */
  readonly source: string;
}

const goTool = (module: string, version: string): GoTool => {
  const name = path.basename(module);
  return { path: path.join(root, `.cache/tools/${name}-${version}/${name}`), source: `${module}@${version}` };
};

export const grpcurl = goTool("github.com/fullstorydev/grpcurl/cmd/grpcurl", "v1.9.4");
/** Says what a server makes of frames that break RFC 9113 or RFC 7541. */
export const h2spec = goTool("github.com/summerwind/h2spec/cmd/h2spec", "v2.2.1+incompatible");
/** From npm. */
export const buf = path.join(root, "node_modules/.bin/buf");

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a tool to its end, from the root of the repository; its exit code is for the test to judge. */
export function runTool(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd: root, timeout: 60_000 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== "number") reject(error);
      else resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** Runs a tool that must succeed; what it wrote. */
export async function outputOf(command: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runTool(command, ...args);
  if (code !== 0) throw new Error(`${command} ${args.join(" ")}\nexit code ${code}\n${stderr}${stdout}`);
  return stdout;
}

/** The services that the server lists. */
export const services = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "opentelemetry.proto.collector.logs.v1.LogsService",
  "opentelemetry.proto.collector.metrics.v1.MetricsService",
  "pulsewire.auth.v1.AuthService",
  "pulsewire.functions.v1.FunctionsService",
  "pulsewire.ingestion.v1.IngestionService",
  "pulsewire.metrics.v1.MetricsService",
  "pulsewire.progress.v1.ProgressService",
  "pulsewire.webhooks.v1.WebhooksService",
];
