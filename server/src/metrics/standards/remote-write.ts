/** Prometheus remote write, 1.0 and 2.0: a call of WriteSamples in another message. */
import { create } from "@bufbuild/protobuf";
import { createContextKey } from "@connectrpc/connect";
import snappy from "snappyjs";
import type { Context } from "../../context.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { MetricsService } from "../../gen/pulsewire/metrics/v1/metrics_service_pb.js";
import { WriteSamplesRequestSchema } from "../../gen/pulsewire/metrics/v1/sample_pb.js";
import type { HttpRequest } from "../../listener/http.ts";
import type { CallRegistry } from "../../rest/calls.ts";
import { HttpError } from "../../rest/http-error.ts";
import { reasonOf } from "../../rest/http-status.ts";
import { readBytes } from "../../rest/read-body.ts";
import { failure } from "../../rpc/errors.ts";
import type { StandardPath } from "./http.ts";
import type { Incoming } from "./incoming.ts";
import { readRequestV2, readWriteRequest } from "./remote-write-format.ts";
import { namedStore, tellRefused, type Written, writeIncoming } from "./write-incoming.ts";

const incomingKey = createContextKey<Incoming>(
  { series: [], refused: [] },
  { description: "samples of remote write" },
);
const writtenKey = createContextKey<Written>(
  { accepted: 0, refused: [] },
  { description: "what became of them" },
);

/** The formats, by the parameter `proto` of the content type. */
const formats: Readonly<Record<string, (bytes: Uint8Array) => Incoming>> = {
  "prometheus.WriteRequest": readWriteRequest,
  "io.prometheus.write.v2.Request": readRequestV2,
};

/** `POST /api/v1/write`. What can be written is written; where anything is refused, the answer is 400 and says what. */
export function remoteWrite(context: Context, calls: CallRegistry): StandardPath {
  const { maxMessageBytes } = context.config;
  return {
    path: "/api/v1/write",
    begin: calls.answeredBy(MetricsService.method.writeSamples, async (_, call) => {
      const written = await writeIncoming(
        context.incoming,
        call,
        call.values.get(incomingKey),
        namedStore(call.requestHeader),
      );
      call.values.set(writtenKey, written);
      return {};
    }),

    async answer(call, req) {
      const incoming = await readIncoming(req, maxMessageBytes).catch((error: unknown) =>
        error instanceof HttpError ? Promise.reject(error) : calls.reject(call, error),
      );
      call.values.set(incomingKey, incoming);
      await calls.unary(call, create(WriteSamplesRequestSchema));
      const { accepted, refused } = call.values.get(writtenKey);
      const headers = {
        "x-prometheus-remote-write-samples-written": String(accepted),
        "x-prometheus-remote-write-histograms-written": "0",
        "x-prometheus-remote-write-exemplars-written": "0",
      };
      if (refused.length === 0) return { status: 204, headers };
      const told = text(400, `${accepted} samples written, ${tellRefused(refused)}`);
      return { ...told, headers: { ...told.headers, ...headers } };
    },

    // Senders give up on 429, unless they are told not to, and always try again on 5xx.
    refuse: (error, status) => {
      if (error instanceof HttpError) return text(status, error.message);
      return text(reasonOf(error) === "OVERLOADED" ? 503 : status, error.rawMessage);
    },
  };
}

async function readIncoming(req: HttpRequest, maxBytes: number): Promise<Incoming> {
  const read = formatOf(req.headers["content-type"]);
  const encoding = req.headers["content-encoding"];
  if (encoding !== "snappy") {
    throw new HttpError(
      415,
      `content-encoding '${encoding ?? ""}' is not served here; remote write is snappy`,
      {
        "accept-encoding": "snappy",
      },
    );
  }
  const bytes = await readBytes(req, maxBytes);
  try {
    return read(snappy.uncompress(bytes, maxBytes));
  } catch (error) {
    throw failure(ErrorReason.MALFORMED_REQUEST, `the body is no remote write: ${(error as Error).message}`);
  }
}

function formatOf(contentType: string | undefined): (bytes: Uint8Array) => Incoming {
  const [type, ...parameters] = (contentType ?? "").split(";").map((part) => part.trim());
  const proto = parameters.find((each) => each.startsWith("proto="))?.slice("proto=".length);
  const format = formats[proto ?? "prometheus.WriteRequest"];
  if (type?.toLowerCase() === "application/x-protobuf" && format) return format;
  const known = Object.keys(formats).join(" or ");
  throw new HttpError(
    415,
    `content-type '${(contentType ?? "").slice(0, 120)}' is not served here; send application/x-protobuf;proto=${known}`,
    { accept: "application/x-protobuf" },
  );
}

function text(status: number, message: string) {
  return { status, headers: { "content-type": "text/plain; charset=utf-8" }, body: `${message}\n` };
}
