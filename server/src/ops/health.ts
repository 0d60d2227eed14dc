import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import {
  type HealthCheckRequest,
  Health as HealthService,
  HealthCheckResponse_ServingStatus as Status,
} from "../gen/grpc/health/v1/health_pb.js";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import { type Component, createComponentReport } from "./components.ts";
import { version } from "./version.ts";

/** What the server says about its own health, over grpc.health.v1 and over plain HTTP. */
export interface Health {
  /** Sets the status of a service; the empty name stands for the whole server. */
  set(service: string, status: "SERVING" | "NOT_SERVING"): void;
  /** Sets everything to NOT_SERVING for good and tells those who watch. */
  shutdown(): void;
  /** Registers grpc.health.v1.Health. */
  routes(router: ConnectRouter): void;
  /**
   * Answers the health paths of the five systems; false if the request is for something else:
   * `/healthz` and `/readyz` (EventFlow, Kubernetes), `/livez`, `/health` (StorePulse), `/api/health`, `/api/ready` and
   * `/api/live` (Event Processor).
   */
  answerHealth(req: HttpRequest, res: HttpResponse): boolean;
}

/** Creates the health of a server that does not serve yet: call `set("", "SERVING")` when it does. */
export function createHealth(components: readonly Component[] = []): Health {
  const startedAt = performance.now();
  const report = createComponentReport(components);
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
      const probe = probes[(req.url ?? "").split("?", 1)[0] ?? ""];
      if (!probe) return false;
      if (req.method !== "GET" && req.method !== "HEAD") {
        answer(req, res, 405, { status: "use GET" });
        return true;
      }
      const serving = statuses.get("") === Status.SERVING;
      void probe({ serving, ended, report, startedAt }).then(({ status, body }) =>
        answer(req, res, status, body),
      );
      return true;
    },
  };
}

interface Probed {
  readonly serving: boolean;
  readonly ended: boolean;
  readonly report: ReturnType<typeof createComponentReport>;
  readonly startedAt: number;
}

type Probe = (probed: Probed) => Promise<{ status: number; body: object }>;

const live =
  (body: object): Probe =>
  async () => ({ status: 200, body });

/** EventFlow's words. */
const eventflowHealth: Probe = async ({ report }) => {
  const { status } = await report();
  return { status: status === "unhealthy" ? 503 : 200, body: { status } };
};

const eventflowReady: Probe = async ({ serving, ended }) =>
  serving
    ? { status: 200, body: { status: "ready" } }
    : { status: 503, body: { status: "not ready", reason: ended ? "shutting down" : "starting" } };

/** Event Processor's words. */
const eventProcessorReady: Probe = async ({ serving }) => ({
  status: serving ? 200 : 503,
  body: { ready: serving },
});

const eventProcessorHealth: Probe = async ({ report, startedAt }) => {
  const { status, components } = await report();
  // Events lie in PostgreSQL here, and where there is no Redis the database carries its messages, too.
  const { postgres = "up", bus = "up", ...others } = components;
  const services = { mongodb: postgres, postgres, redis: bus, ...others };
  return {
    status: status === "unhealthy" ? 503 : 200,
    body: {
      status,
      version,
      uptime: Math.floor((performance.now() - startedAt) / 1_000),
      timestamp: new Date().toISOString(),
      services: Object.fromEntries(Object.entries(services).map(([name, each]) => [name, { status: each }])),
    },
  };
};

const probes: Readonly<Record<string, Probe>> = {
  "/healthz": eventflowHealth,
  "/readyz": eventflowReady,
  "/livez": live({ status: "healthy" }),
  "/health": eventProcessorHealth,
  "/api/health": eventProcessorHealth,
  "/api/ready": eventProcessorReady,
  "/api/live": live({ live: true }),
};

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
