import { Code, ConnectError, type ContextValues } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { Logger } from "pino";
import { callerKey } from "./caller.ts";
import { clientAddressKey } from "./client-address.ts";
import type { Interceptor } from "./interceptor.ts";
import { observeEnd } from "./stream.ts";
import { requestIdKey } from "./trace.ts";

/** A tenant, or an address, that sends more calls than it may is told of once in this time. */
const refusalsMs = 60_000;
const maxRefused = 10_000;

/**
 * Writes a line for every call when it is over: successes at level debug, failures at info, and those at debug that are
 * refused for their number, but for the first in a minute: they come by the hundred. Never a message body.
 */
export function logInterceptor(logger: Logger): Interceptor {
  const told = new LRUCache<string, true>({ max: maxRefused, ttl: refusalsMs });
  const isRepeated = (values: ContextValues, error: unknown): boolean => {
    if (!(error instanceof ConnectError) || !error.metadata.has("ratelimit")) return false;
    if (error.code !== Code.ResourceExhausted) return false;
    const who = values.get(callerKey)?.tenantId ?? values.get(clientAddressKey);
    if (told.has(who)) return true;
    told.set(who, true);
    return false;
  };
  return (next) => (req) => {
    const started = performance.now();
    const finish = (error?: unknown) => {
      const isQuiet = error === undefined || isRepeated(req.contextValues, error);
      const level = isQuiet ? "debug" : "info";
      if (!logger.isLevelEnabled(level)) return;
      logger[level](
        {
          method: `${req.service.typeName}/${req.method.name}`,
          code: error === undefined ? "ok" : Code[ConnectError.from(error).code],
          ms: Math.round((performance.now() - started) * 10) / 10,
          requestId: req.contextValues.get(requestIdKey),
          tenantId: req.contextValues.get(callerKey)?.tenantId,
          ...(error === undefined ? {} : { error: ConnectError.from(error).rawMessage }),
        },
        "call",
      );
    };
    return observeEnd(next, req, finish);
  };
}
