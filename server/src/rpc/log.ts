import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { callerKey } from "./caller.ts";
import { type Interceptor, settle } from "./interceptor.ts";
import { wrapStream } from "./stream.ts";
import { requestIdKey } from "./trace.ts";

/** Writes a line for every call when it is over: successes at level debug, failures at info. Never a message body. */
export function logInterceptor(logger: Logger): Interceptor {
  return (next) => (req) => {
    const started = performance.now();
    const finish = (error?: unknown) => {
      const level = error === undefined ? "debug" : "info";
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
    return settle(
      next,
      req,
      (res) => {
        if (res.stream) return { ...res, message: wrapStream(res.message, { onEnd: finish }) };
        finish();
        return res;
      },
      (error) => {
        finish(error);
        throw error;
      },
    );
  };
}
