import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest } from "node:http2";
import { Code, ConnectError } from "@connectrpc/connect";
import { cutOff, discardBody, hasArrived } from "./body.ts";
import type { HttpRequest, HttpResponse } from "./http.ts";
import type { RunningCall } from "./lean/path.ts";
import type { ListenerLimits } from "./limits.ts";
import { type Listed, RunningList } from "./running.ts";
import { writeError } from "./write-error.ts";

const openEnded = new WeakSet<HttpRequest>();

/** Says that a request's body is a stream of messages, which may take as long as it likes. */
export function allowLongBody(req: HttpRequest): void {
  openEnded.add(req);
}

/** The requests that run at the moment, on HTTP/1.1 and HTTP/2 alike. */
export interface Requests {
  /** How many run. */
  readonly size: number;
  /** Follows a request until its response is closed. */
  track(req: HttpRequest, res: HttpResponse): void;
  /** Closes each HTTP/1.1 connection after its answer; answers that have not begun yet say `connection: close`. */
  drain(): void;
  /** Ends the watch for slow bodies. */
  stop(): void;
}

class Tracked implements Listed<Tracked> {
  readonly arrivedAt = performance.now();
  isListed = false;
  earlier: Tracked | undefined = undefined;
  later: Tracked | undefined = undefined;
  readonly res: HttpResponse;

  constructor(res: HttpResponse) {
    this.res = res;
  }
}

/**
 * Follows the running requests. A body that takes longer than `requestTimeoutMs` is refused, and what is left of a body
 * when the answer is complete is thrown away, so that neither can hold a connection or its flow-control window.
 */
export function followRequests(
  limits: Pick<ListenerLimits, "requestTimeoutMs" | "lingerTimeoutMs">,
  lean = new RunningList<RunningCall>(),
): Requests {
  // In order of arrival, so a sweep ends at the first young one.
  const running = new RunningList<Tracked>();
  let draining = false;

  function sweep(): void {
    const oldest = performance.now() - limits.requestTimeoutMs;
    for (const call of lean) {
      if (call.arrivedAt > oldest) break;
      if (!call.hasArrived) call.refuse((req, res) => refuseSlowBody(req, res, limits.requestTimeoutMs));
    }
    for (const { res, arrivedAt } of running) {
      if (arrivedAt > oldest) return;
      const req = res.req as HttpRequest;
      if (!hasArrived(req) && !openEnded.has(req)) refuseSlowBody(req, res, limits.requestTimeoutMs);
    }
  }
  const timer = setInterval(sweep, Math.min(1000, Math.max(20, limits.requestTimeoutMs / 4))).unref();

  function onFinish(req: HttpRequest): void {
    if (!hasArrived(req) || "stream" in req) discardBody(req, limits.lingerTimeoutMs);
    else if (draining) (req as IncomingMessage).socket.destroySoon();
  }

  return {
    get size() {
      return running.size + lean.size;
    },
    track(req, res) {
      const tracked = new Tracked(res);
      running.add(tracked);
      if (draining) closeAfter(res);
      // The response of HTTP/2 says `finish` only when the stream closes, which may wait for what is done here.
      ("stream" in req ? (req as Http2ServerRequest).stream : res).on("finish", () => onFinish(req));
      res.on("close", () => running.delete(tracked));
      // A peer that vanishes is no error of ours; without a listener it would end the process.
      req.on("error", ignore);
      res.on("error", ignore);
    },
    drain() {
      draining = true;
      for (const { res } of running) closeAfter(res);
      for (const call of lean) call.closeAfter();
    },
    stop() {
      clearInterval(timer);
    },
  };
}

function ignore(): void {}

function closeAfter(res: HttpResponse): void {
  if (!("stream" in res)) (res as ServerResponse).shouldKeepAlive = false;
}

function refuseSlowBody(req: HttpRequest, res: HttpResponse, timeoutMs: number): void {
  if (res.headersSent) {
    if (!res.writableEnded) cutOff(req);
    return;
  }
  closeAfter(res);
  const message = `the request body did not arrive within ${timeoutMs} ms`;
  writeError(req, res, new ConnectError(message, Code.DeadlineExceeded), { httpStatus: 408 });
}
