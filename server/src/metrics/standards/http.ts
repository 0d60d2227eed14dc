/** The paths of open standards, beside those of REST: each is a call of a method of ours or of the standard's own. */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { LogsService } from "../../gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import { MetricsService } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { shutdownError } from "../../listener/draining.ts";
import type { HttpRequest, HttpResponse } from "../../listener/http.ts";
import type { CallRegistry, RestCall } from "../../rest/calls.ts";
import { HttpError, type RestError } from "../../rest/http-error.ts";
import { httpStatusOf } from "../../rest/http-status.ts";
import { failure, toCallerError } from "../../rpc/errors.ts";
import { otlpPath } from "./otlp-http.ts";
import { remoteWrite } from "./remote-write.ts";

/** What is sent back. */
export interface StandardAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** One path, which takes POST alone. */
export interface StandardPath {
  readonly path: string;
  begin(req: HttpRequest): RestCall;
  /** Reads the request, calls and answers. */
  answer(call: RestCall, req: HttpRequest): Promise<StandardAnswer>;
  /** Tells an error in the words of the standard; `status` is what HTTP says of it. */
  refuse(error: RestError, status: number, req: HttpRequest): StandardAnswer;
}

/** Makes the handler: false for what is not for it. */
export function createStandards(
  context: Context,
  calls: CallRegistry,
): (req: HttpRequest, res: HttpResponse) => boolean {
  const { logger, shutdown, callMetrics } = context;
  const { maxMessageBytes } = context.config;
  const standards = [
    remoteWrite(context, calls),
    otlpPath("/v1/metrics", MetricsService.method.export, calls, maxMessageBytes),
    otlpPath("/v1/logs", LogsService.method.export, calls, maxMessageBytes),
  ];
  const paths = new Map(standards.map((each) => [each.path, each]));

  async function answer(standard: StandardPath, req: HttpRequest, res: HttpResponse): Promise<void> {
    const call = standard.begin(req);
    res.on("close", () => {
      if (!res.writableEnded) call.abort(new ConnectError("the client has gone", Code.Canceled));
    });
    try {
      if (shutdown.signal.aborted) throw shutdownError(shutdown.signal);
      send(res, await standard.answer(call, req));
    } catch (thrown) {
      refuse(standard, req, res, thrown);
    } finally {
      call.abort();
    }
  }

  return (req, res) => {
    const [path = ""] = (req.url ?? "").split("?", 1);
    const standard = req.method === "POST" ? paths.get(path) : undefined;
    if (!standard) return false;
    const started = performance.now();
    res.on("close", () =>
      callMetrics.observe("POST", path, res.statusCode, (performance.now() - started) / 1_000),
    );
    answer(standard, req, res).catch((error: unknown) => {
      logger.error({ err: error, path }, "a call of an open standard ended without an answer");
      refuse(standard, req, res, failure(ErrorReason.INTERNAL, "internal error"));
    });
    return true;
  };
}

function refuse(standard: StandardPath, req: HttpRequest, res: HttpResponse, thrown: unknown): void {
  const error = thrown instanceof HttpError ? thrown : toCallerError(thrown, "");
  const status = error instanceof HttpError ? error.status : httpStatusOf(error);
  const given = error instanceof HttpError ? error.headers : Object.fromEntries(error.metadata);
  const challenge = status === 401 ? { "www-authenticate": 'Bearer realm="pulsewire"' } : {};
  const { headers, ...told } = standard.refuse(error, status, req);
  send(res, { ...told, headers: { ...given, ...challenge, ...headers } });
}

function send(res: HttpResponse, { status, headers, body }: StandardAnswer): void {
  if (res.destroyed || res.headersSent) return;
  const length = body === undefined ? {} : { "content-length": String(Buffer.byteLength(body)) };
  res.writeHead(status, { ...headers, ...length });
  if (body !== undefined) res.write(body);
  res.end();
}
