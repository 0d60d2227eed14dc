import type { IncomingHttpHeaders } from "node:http";
import type { Compression } from "@connectrpc/connect/protocol";

/** One way in which unary calls or server streams are written: a protocol and a codec. */
export interface Format {
  readonly protocol: "grpc" | "connect";
  readonly codec: "proto" | "json";
  /** Which methods are called in this form. gRPC has one for both. */
  readonly streams: boolean;
  /** Whether messages stand in envelopes. */
  readonly enveloped: boolean;
  /** The content type of the answer. */
  readonly answerType: string;
  readonly timeoutHeader: string;
  readonly encodingHeader: string;
  readonly acceptEncodingHeader: string;
}

const grpc = {
  protocol: "grpc",
  enveloped: true,
  timeoutHeader: "grpc-timeout",
  encodingHeader: "grpc-encoding",
  acceptEncodingHeader: "grpc-accept-encoding",
} as const;
const connect = { protocol: "connect", timeoutHeader: "connect-timeout-ms" } as const;
const connectUnary = {
  ...connect,
  streams: false,
  enveloped: false,
  encodingHeader: "content-encoding",
  acceptEncodingHeader: "accept-encoding",
} as const;
const connectStream = {
  ...connect,
  streams: true,
  enveloped: true,
  encodingHeader: "connect-content-encoding",
  acceptEncodingHeader: "connect-accept-encoding",
} as const;

function formatsOf(streams: boolean): ReadonlyMap<string, Format> {
  const grpcProto = { ...grpc, streams, codec: "proto", answerType: "application/grpc+proto" } as const;
  const grpcJson = { ...grpc, streams, codec: "json", answerType: "application/grpc+json" } as const;
  const own: [string, Format][] = streams
    ? [
        [
          "application/connect+proto",
          { ...connectStream, codec: "proto", answerType: "application/connect+proto" },
        ],
        [
          "application/connect+json",
          { ...connectStream, codec: "json", answerType: "application/connect+json" },
        ],
      ]
    : [
        ["application/proto", { ...connectUnary, codec: "proto", answerType: "application/proto" }],
        ["application/json", { ...connectUnary, codec: "json", answerType: "application/json" }],
        [
          "application/json; charset=utf-8",
          { ...connectUnary, codec: "json", answerType: "application/json" },
        ],
      ];
  return new Map<string, Format>([
    ["application/grpc", grpcProto],
    ["application/grpc+proto", grpcProto],
    ["application/grpc+json", grpcJson],
    ...own,
  ]);
}

/** The formats of the lean path by the content type that asks for them, for unary methods and for server streams. */
export const unaryFormats = formatsOf(false);
export const streamFormats = formatsOf(true);

const grpcTimeout = /^(\d{1,8})([HMSmun])$/;
const grpcUnitsMs: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 0.001,
  n: 0.000_001,
};

/** The deadline that a call asks for, milliseconds: undefined without one, NaN where it is not well written. */
export function timeoutOf(format: Format, headers: IncomingHttpHeaders): number | undefined {
  const value = headers[format.timeoutHeader];
  if (value === undefined) return undefined;
  if (typeof value !== "string") return Number.NaN;
  if (format.protocol === "connect") return /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
  const [, count, unit = ""] = grpcTimeout.exec(value) ?? [];
  return Number(count) * (grpcUnitsMs[unit] ?? Number.NaN);
}

/** Finds the compression that a client accepts for answers. Clients say the same again and again. */
export function answerCompressions(available: readonly Compression[]) {
  const known = new Map<string, Compression | undefined>();
  return (accepted: string | string[] | undefined): Compression | undefined => {
    if (typeof accepted !== "string") return undefined;
    if (known.has(accepted)) return known.get(accepted);
    const names = accepted.split(",").map((name) => name.trim());
    const first = names.map((name) => available.find((each) => each.name === name)).find(Boolean);
    if (known.size < 1_000) known.set(accepted, first);
    return first;
  };
}
