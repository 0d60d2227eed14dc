/**
 * Lays out the third-party schemas that ours import, so that buf finds them without a registry.
 *
 * They are dependencies, not sources: `google/*` comes from the npm package google-proto-files, the gRPC health
 * and reflection services from grpc-health-check and @grpc/reflection, `opentelemetry/*` from the last release of its gRPC exporter
 * that held it (as otlp-protos), and `buf/validate/validate.proto` is
 * printed from the descriptor inside @bufbuild/protovalidate. The folder is git-ignored and made anew each time.
 */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { DescFile } from "@bufbuild/protobuf";
import type { DescriptorProto, EnumDescriptorProto, FieldDescriptorProto } from "@bufbuild/protobuf/wkt";
import { FieldDescriptorProto_Label, FieldDescriptorProto_Type } from "@bufbuild/protobuf/wkt";
import { file_buf_validate_validate } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";

const require = createRequire(import.meta.url);
const root = join(import.meta.dirname, "..");

/** Where the schemas are laid out; `buf.yaml` names it as a module. */
export const protoDepsDir = join(root, ".cache/proto-deps");

const google = [
  "google/api/annotations.proto",
  "google/api/http.proto",
  "google/api/httpbody.proto",
  "google/rpc/code.proto",
  "google/rpc/error_details.proto",
  "google/rpc/status.proto",
];

/** Writes all dependencies to {@link protoDepsDir}. */
export function layOutProtoDeps(): void {
  rmSync(protoDepsDir, { recursive: true, force: true });
  const put = (from: string, to: string) => {
    mkdirSync(dirname(join(protoDepsDir, to)), { recursive: true });
    cpSync(from, join(protoDepsDir, to));
  };
  const googleDir = dirname(require.resolve("google-proto-files/package.json"));
  for (const path of google) put(join(googleDir, path), path);
  const healthDir = dirname(require.resolve("grpc-health-check/package.json"));
  put(join(healthDir, "proto/health/v1/health.proto"), "grpc/health/v1/health.proto");
  const reflectionDir = dirname(require.resolve("@grpc/reflection/package.json"));
  for (const version of ["v1", "v1alpha"]) {
    const path = `grpc/reflection/${version}/reflection.proto`;
    put(join(reflectionDir, "build/proto", path), path);
  }
  layOutOtlp();
  mkdirSync(join(protoDepsDir, "buf/validate"), { recursive: true });
  writeFileSync(join(protoDepsDir, "buf/validate/validate.proto"), printProto2(file_buf_validate_validate));
}

/** What OTLP 1.x has added since to the messages that we use, by https://opentelemetry.io/docs/specs/otlp/ and the published schema. */
const otlpSince: Readonly<Record<string, readonly [old: string, since: string][]>> = {
  "logs/v1/logs.proto": [["message LogRecord {", "message LogRecord {\n  string event_name = 12;"]],
  "collector/logs/v1/logs_service.proto": partialSuccess("Logs", "rejected_log_records"),
  "collector/metrics/v1/metrics_service.proto": partialSuccess("Metrics", "rejected_data_points"),
};

function partialSuccess(signal: string, rejected: string): [string, string][] {
  const name = `Export${signal}PartialSuccess`;
  const message = `message ${name} { int64 ${rejected} = 1; string error_message = 2; }`;
  const response = `message Export${signal}ServiceResponse {`;
  return [[response, `${message}\n${response}\n  ${name} partial_success = 1;`]];
}

function layOutOtlp(): void {
  const from = join(dirname(require.resolve("otlp-protos/package.json")), "build/protos/opentelemetry/proto");
  const unchanged = ["common/v1/common.proto", "resource/v1/resource.proto", "metrics/v1/metrics.proto"];
  for (const path of [...unchanged, ...Object.keys(otlpSince)]) {
    let text = readFileSync(join(from, path), "utf8");
    for (const [old, since] of otlpSince[path] ?? []) {
      if (!text.includes(old)) throw new Error(`${path} has no '${old}'`);
      text = text.replace(old, since);
    }
    const to = join(protoDepsDir, "opentelemetry/proto", path);
    mkdirSync(dirname(to), { recursive: true });
    writeFileSync(to, text);
  }
}

/** Prints a proto2 file without comments and custom options: enough to compile files that import it. */
function printProto2(file: DescFile): string {
  const { proto } = file;
  const lines = [
    'syntax = "proto2";',
    `package ${proto.package};`,
    ...proto.dependency.map((name) => `import "${name}";`),
    ...proto.enumType.flatMap(printEnum),
    ...proto.messageType.flatMap(printMessage),
    ...proto.extension.map((field) => `extend ${field.extendee} { ${printField(field)} }`),
  ];
  return `${lines.join("\n")}\n`;
}

function printMessage(message: DescriptorProto): string[] {
  const oneofs = message.oneofDecl.map((oneof, index) => {
    const fields = message.field.filter((field) => inOneof(field) && field.oneofIndex === index);
    return `oneof ${oneof.name} { ${fields.map(printField).join(" ")} }`;
  });
  return [
    `message ${message.name} {`,
    ...message.enumType.flatMap(printEnum),
    ...message.nestedType.flatMap(printMessage),
    ...message.field.filter((field) => !inOneof(field)).map(printField),
    ...oneofs,
    ...message.extensionRange.map(({ start, end }) => `extensions ${start} to ${(end ?? 0) - 1};`),
    "}",
  ];
}

function printEnum(desc: EnumDescriptorProto): string[] {
  const values = desc.value.map((value) => `${value.name} = ${value.number};`);
  return [`enum ${desc.name} {`, ...values, "}"];
}

function printField(field: FieldDescriptorProto): string {
  const label = inOneof(field) ? "" : `${FieldDescriptorProto_Label[field.label].toLowerCase()} `;
  const type = field.typeName || FieldDescriptorProto_Type[field.type].toLowerCase();
  return `${label}${type} ${field.name} = ${field.number};`;
}

/** A oneof index of 0 is also the default of the descriptor's field, so presence decides. */
function inOneof(field: FieldDescriptorProto): boolean {
  return Object.hasOwn(field, "oneofIndex");
}
