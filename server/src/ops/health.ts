import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  type HealthCheckRequest,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/grpc/health/v1/health_pb.js";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";

/** What the server says about its own health, over grpc.health.v1 and over plain HTTP. */
export interface Health {
  /** Sets the status of a service; the empty name stands for the whole server. */
  set(service: string, status: "SERVING" | "NOT_SERVING"): void;
  /** Sets everything to NOT_SERVING for good and tells those who watch. */
  shutdown(): void;
  /** Registers grpc.health.v1.Health. */
  routes(router: ConnectRouter): void;
  /** Answers `/readyz`, `/livez` and `/healthz`; false if the request is for something else. */
  answerHealth(req: HttpRequest, res: HttpResponse): boolean;
}

/** Creates the health of a server that does not serve yet: call `set("", "SERVING")` when it does. */
export function createHealth(): Health {
  const statuses = new Map<string, Status>([["", Status.NOT_SERVING]]);
  const watchers = new Set<() => void>();
  let ended = false;

  function change(service: string, status: Status): void {
    statuses.set(service, status);
    for (const wake of watchers) wake();
  }

  async function* watch({ service }: HealthCheckRequest, { signal }: HandlerContext) {
    let wake = () => {};
    const onChange = () => wake();
    watchers.add(onChange);
    signal.addEventListener("abort", onChange);
    try {
      let sent: Status | undefined;
      for (;;) {
        const status = statuses.get(service) ?? Status.SERVICE_UNKNOWN;
        if (status !== sent) {
          sent = status;
          yield { status };
          continue;
        }
        signal.throwIfAborted();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      watchers.delete(onChange);
      signal.removeEventListener("abort", onChange);
    }
  }

  return {
    set(service, status) {
      if (!ended) change(service, Status[status]);
    },
    shutdown() {
      ended = true;
      for (const service of statuses.keys()) change(service, Status.NOT_SERVING);
    },
    routes(router) {
      router.service(HealthService, {
        check({ service }) {
          const status = statuses.get(service);
          if (status === undefined) throw new ConnectError(`unknown service ${service}`, Code.NotFound);
          return { status };
        },
        list() {
          return {
            statuses: Object.fromEntries([...statuses].map(([service, status]) => [service, { status }])),
          };
        },
        watch,
      });
    },
    answerHealth(req, res) {
      const path = (req.url ?? "").split("?", 1)[0];
      if (path !== "/readyz" && path !== "/livez" && path !== "/healthz") return false;
      const ready = statuses.get("") === Status.SERVING;
      if (req.method !== "GET" && req.method !== "HEAD") answer(req, res, 405, { status: "use GET" });
      else if (path !== "/readyz") answer(req, res, 200, { status: "healthy" });
      else if (ready) answer(req, res, 200, { status: "ready" });
      else answer(req, res, 503, { status: "not ready", reason: ended ? "shutting down" : "starting" });
      return true;
    },
  };
}

function answer(req: HttpRequest, res: HttpResponse, status: number, body: object): void {
  const json = JSON.stringify(body);
  res.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(json),
    "cache-control": "no-store",
    ...(status === 405 && { allow: "GET, HEAD" }),
  });
  if (req.method !== "HEAD") res.write(json);
  res.end();
}
