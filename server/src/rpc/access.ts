import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { Health } from "../gen/grpc/health/v1/health_pb.js";
import { ServerReflection as ServerReflectionV1 } from "../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionV1Alpha } from "../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { LogsService as OtlpLogsService } from "../gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import { MetricsService as OtlpMetricsService } from "../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import { access, Scope } from "../gen/pulsewire/options/v1/access_pb.js";

/** Who may call a method, as declared beside it in the contract. */
export type AccessRule = { openInPublicTenant: boolean } & (
  | { kind: "public" | "authenticated" }
  | { kind: "scopes"; anyOf: readonly Scope[] }
);

/** Standard services whose files are not ours to annotate: open, as operators and tools expect. */
const openServices: readonly string[] = [
  Health.typeName,
  ServerReflectionV1.typeName,
  ServerReflectionV1Alpha.typeName,
];

/** Standard services that write: what they need is what our own ways to write the same need. */
const writingServices: Readonly<Record<string, Scope>> = {
  [OtlpMetricsService.typeName]: Scope.METRICS_WRITE,
  [OtlpLogsService.typeName]: Scope.EVENTS_WRITE,
};

/** Reads the rule of a method. Throws when the contract declares none: deny by default starts here. */
export function accessOf(method: DescMethod): AccessRule {
  if (openServices.includes(method.parent.typeName)) return { kind: "public", openInPublicTenant: false };
  const needed = writingServices[method.parent.typeName];
  if (needed !== undefined) return { kind: "scopes", anyOf: [needed], openInPublicTenant: false };
  const name = `${method.parent.typeName}/${method.name}`;
  if (!hasOption(method, access)) throw new Error(`${name} declares no access in the contract`);
  const { rule, openInPublicTenant } = getOption(method, access);
  switch (rule.case) {
    case "public":
    case "authenticated":
      if (!rule.value) break;
      return { kind: rule.case, openInPublicTenant };
    case "scopes":
      if (rule.value.anyOf.length === 0 || rule.value.anyOf.includes(Scope.UNSPECIFIED)) break;
      return { kind: "scopes", anyOf: rule.value.anyOf, openInPublicTenant };
  }
  throw new Error(`${name} declares an empty access rule in the contract`);
}

/** The rules of all methods; fails at start when one is missing. */
export function accessTable(services: readonly DescService[]): Map<DescMethod, AccessRule> {
  return new Map(services.flatMap((service) => service.methods.map((method) => [method, accessOf(method)])));
}
