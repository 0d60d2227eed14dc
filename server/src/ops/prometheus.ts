/**
 * `GET /metrics` in the text format of Prometheus. Collectors of all parts belong into the context's one registry.
 *
 * The series name tenants and say how much they do, so they are no public page: with PULSEWIRE_METRICS_TOKEN they are for
 * whoever sends it as a bearer token; without it they are open in development on loopback, and nowhere else.
 */
import { hash, timingSafeEqual } from "node:crypto";
import { isIP } from "node:net";
import type { Logger } from "pino";
import { Registry } from "prom-client";
import type { Config } from "../config/config.ts";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";

export interface Prometheus {
  /** Where collectors are registered. */
  readonly registry: Registry;
  /** Answers `/metrics`; false if the request is for something else. */
  answerMetrics(req: HttpRequest, res: HttpResponse): boolean;
}

const setting = "PULSEWIRE_METRICS_TOKEN";

export function createPrometheus(
  config: Pick<Config, "metricsToken" | "development" | "host">,
  logger: Logger,
): Prometheus {
  const registry = new Registry();
  const { metricsToken } = config;
  const isOpen = metricsToken === undefined && config.development && isLoopback(config.host);

  const answer = async (req: HttpRequest, res: HttpResponse) => {
    const text = await registry.metrics();
    write(req, res, 200, text, { "content-type": registry.contentType });
  };

  return {
    registry,
    answerMetrics(req, res) {
      if ((req.url ?? "").split("?", 1)[0] !== "/metrics") return false;
      if (req.method !== "GET" && req.method !== "HEAD") {
        write(req, res, 405, "use GET\n", { allow: "GET, HEAD" });
      } else if (!isOpen && metricsToken === undefined) {
        write(req, res, 403, `metrics are not served without a token; the operator sets ${setting}\n`);
      } else if (metricsToken !== undefined && !isToken(req.headers.authorization, metricsToken)) {
        const challenge = { "www-authenticate": 'Bearer realm="metrics"' };
        write(req, res, 401, `send the value of ${setting} as a bearer token\n`, challenge);
      } else {
        answer(req, res).catch((err: unknown) => {
          logger.error({ err }, "metrics could not be collected");
          if (!res.headersSent) write(req, res, 503, "metrics cannot be collected right now\n");
        });
      }
      return true;
    },
  };
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Compares digests, so that the time tells nothing of the token. */
function isToken(authorization: string | undefined, token: string): boolean {
  const [, given] = /^Bearer +(\S+)$/i.exec(authorization ?? "") ?? [];
  if (given === undefined) return false;
  return timingSafeEqual(hash("sha256", given, "buffer"), hash("sha256", token, "buffer"));
}

function write(
  req: HttpRequest,
  res: HttpResponse,
  status: number,
  text: string,
  headers: Record<string, string> = {},
): void {
  res.writeHead(status, {
    "content-type": "text/plain; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    ...headers,
  });
  res.end(req.method === "HEAD" ? "" : text);
}
