/** EventFlow's series of calls: `eventflow_api_requests_total` and `eventflow_api_request_duration_seconds`. */
import { ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";
import { Counter, Histogram, type Registry } from "prom-client";
import { httpStatusOf } from "../rest/http-status.ts";
import { wrapStream } from "../rpc/stream.ts";

export interface CallMetrics {
  /** Counts a call that has ended. `endpoint` is a path of the contract, never one with ids in it. */
  observe(method: string, endpoint: string, status: number, seconds: number): void;
}

/** Set where a call comes by REST, which counts it itself, by its own path and status. */
export const countedByRestKey = createContextKey(false, { description: "counted by REST" });

const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export function createCallMetrics(registry: Registry): CallMetrics {
  const requests = new Counter({
    name: "eventflow_api_requests_total",
    help: "Total number of API requests",
    labelNames: ["method", "endpoint", "status"],
    registers: [registry],
  });
  const durations = new Histogram({
    name: "eventflow_api_request_duration_seconds",
    help: "API request duration in seconds",
    labelNames: ["method", "endpoint"],
    buckets,
    registers: [registry],
  });
  return {
    observe(method, endpoint, status, seconds) {
      requests.inc({ method, endpoint, status: String(status) });
      durations.observe({ method, endpoint }, seconds);
    },
  };
}

/** Counts calls of gRPC, gRPC-Web and Connect; a stream when it has ended. */
export function callMetricsInterceptor(metrics: CallMetrics): Interceptor {
  return (next) => async (req) => {
    if (req.contextValues.get(countedByRestKey)) return await next(req);
    const started = performance.now();
    const finish = (error?: unknown) => {
      const status = error === undefined ? 200 : httpStatusOf(ConnectError.from(error));
      const endpoint = `/${req.service.typeName}/${req.method.name}`;
      metrics.observe("POST", endpoint, status, (performance.now() - started) / 1_000);
    };
    try {
      const res = await next(req);
      if (res.stream) return { ...res, message: wrapStream(res.message, { onEnd: finish }) };
      finish();
      return res;
    } catch (error) {
      finish(error);
      throw error;
    }
  };
}
