/** EventFlow's series of calls: `eventflow_api_requests_total` and `eventflow_api_request_duration_seconds`. */
import type { DescMethod } from "@bufbuild/protobuf";
import { ConnectError, createContextKey } from "@connectrpc/connect";
import { Counter, Histogram, type Registry } from "prom-client";
import { httpStatusOf } from "../rest/http-status.ts";
import type { Interceptor } from "../rpc/interceptor.ts";
import { observeEnd } from "../rpc/stream.ts";

export interface CallMetrics {
  /** Counts a call that has ended. `endpoint` is a path of the contract, never one with ids in it. */
  observe(method: string, endpoint: string, status: number, seconds: number): void;
  /** Counts the calls of one endpoint, without looking for it each time. */
  meter(method: string, endpoint: string): CallMeter;
}

/** Set where a call comes by REST, which counts it itself, by its own path and status. */
export const countedByRestKey = createContextKey(false, { description: "counted by REST" });

const bounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
const durations = {
  name: "eventflow_api_request_duration_seconds",
  help: "API request duration in seconds",
};

/** The calls of one endpoint. The collectors read it when Prometheus asks: theirs look labels up with every call. */
export class CallMeter {
  readonly labels: { readonly method: string; readonly endpoint: string };
  /** How many lasted at most each bound, and longer than the one before; those beyond the last bound are in `count` alone. */
  readonly buckets: number[] = bounds.map(() => 0);
  /** Calls by status. */
  readonly statuses = new Map<number, number>();
  sum = 0;
  count = 0;

  constructor(method: string, endpoint: string) {
    this.labels = { method, endpoint };
  }

  observe(status: number, seconds: number): void {
    this.statuses.set(status, (this.statuses.get(status) ?? 0) + 1);
    this.sum += seconds;
    this.count++;
    let index = 0;
    while (index < bounds.length && seconds > (bounds[index] as number)) index++;
    if (index < bounds.length) this.buckets[index] = (this.buckets[index] as number) + 1;
  }
}

/** Shows what the meters hold; nothing is observed in it. */
class MeteredHistogram extends Histogram<"method" | "endpoint"> {
  readonly #meters: () => Iterable<CallMeter>;

  constructor(registry: Registry, meters: () => Iterable<CallMeter>) {
    super({
      ...durations,
      labelNames: ["method", "endpoint"],
      buckets: bounds,
      registers: [registry],
    });
    this.#meters = meters;
  }

  /** What the registry reads, and `get` as well. */
  async getForPromString() {
    return {
      ...durations,
      type: "histogram",
      aggregator: "sum",
      values: [...this.#meters()].flatMap(bucketsOf),
    };
  }
}

function bucketsOf({ labels, buckets, sum, count }: CallMeter) {
  const part = (suffix: string, value: number, own: { le?: number | string } = {}) => ({
    metricName: `${durations.name}_${suffix}`,
    value,
    labels: own,
    sharedLabels: labels,
  });
  let upTo = 0;
  return [
    ...bounds.map((le, index) => {
      upTo += buckets[index] as number;
      return part("bucket", upTo, { le });
    }),
    part("bucket", count, { le: "+Inf" }),
    part("sum", sum),
    part("count", count),
  ];
}

export function createCallMetrics(registry: Registry): CallMetrics {
  const meters = new Map<string, Map<string, CallMeter>>();
  const all = () => [...meters.values()].flatMap((byEndpoint) => [...byEndpoint.values()]);
  new Counter({
    name: "eventflow_api_requests_total",
    help: "Total number of API requests",
    labelNames: ["method", "endpoint", "status"],
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels, statuses } of all()) {
        for (const [status, count] of statuses) this.inc({ ...labels, status: String(status) }, count);
      }
    },
  });
  new MeteredHistogram(registry, all);

  const meter = (method: string, endpoint: string): CallMeter => {
    let byEndpoint = meters.get(method);
    if (!byEndpoint) {
      byEndpoint = new Map();
      meters.set(method, byEndpoint);
    }
    let found = byEndpoint.get(endpoint);
    if (!found) {
      found = new CallMeter(method, endpoint);
      byEndpoint.set(endpoint, found);
    }
    return found;
  };
  return {
    meter,
    observe: (method, endpoint, status, seconds) => meter(method, endpoint).observe(status, seconds),
  };
}

/** Counts calls of gRPC, gRPC-Web and Connect; a stream when it has ended. */
export function callMetricsInterceptor(metrics: CallMetrics): Interceptor {
  const meters = new Map<DescMethod, CallMeter>();
  const meterOf = (method: DescMethod): CallMeter => {
    let found = meters.get(method);
    if (!found) {
      found = metrics.meter("POST", `/${method.parent.typeName}/${method.name}`);
      meters.set(method, found);
    }
    return found;
  };
  return (next) => (req) => {
    if (req.contextValues.get(countedByRestKey)) return next(req);
    const started = performance.now();
    const finish = (error?: unknown) => {
      const status = error === undefined ? 200 : httpStatusOf(ConnectError.from(error));
      meterOf(req.method).observe(status, (performance.now() - started) / 1_000);
    };
    return observeEnd(next, req, finish);
  };
}
