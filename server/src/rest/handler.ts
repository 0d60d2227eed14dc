/** REST on the one port: finds the binding, reads the request, calls the service and answers in the path's dialect. */
import { randomBytes } from "node:crypto";
import type { DescService, JsonObject, Registry } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import { shutdownError } from "../listener/draining.ts";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import { failure, toCallerError } from "../rpc/errors.ts";
import { requestIdKey } from "../rpc/trace.ts";
import { type Binding, bindingsOf } from "./bindings.ts";
import { buildRequest } from "./build-request.ts";
import type { Calls } from "./calls.ts";
import { type Dialect, methodKey } from "./dialect.ts";
import { dialectOf } from "./dialects/index.ts";
import { HttpError } from "./http-error.ts";
import { readJsonBody } from "./read-body.ts";
import { createRouter } from "./router.ts";
import { spell } from "./spell.ts";
import { chooseForm, writeStream } from "./stream-answer.ts";
import { writeAnswer } from "./write-answer.ts";

export interface RestOptions {
  readonly services: readonly DescService[];
  readonly calls: Calls;
  /** Types that may stand inside google.protobuf.Any. */
  readonly registry: Registry;
  readonly maxBodyBytes: number;
  /** Paths where another handler takes a further method, for `Allow`. */
  readonly alsoTaken: ReadonlyMap<string, string>;
  /** Once aborted, new calls are refused. */
  readonly shutdownSignal: AbortSignal;
  readonly logger: Logger;
  /** Counts a call that has ended. */
  observe(method: string, endpoint: string, status: number, seconds: number): void;
}

/** Makes the handler: false for a path that is no REST path. Throws where two methods share a path. */
export function createRestHandler(options: RestOptions): (req: HttpRequest, res: HttpResponse) => boolean {
  const { services, logger } = options;
  const router = createRouter(bindingsOf(services));

  return (req, res) => {
    const url = req.url ?? "/";
    const [path = "/", search = ""] = url.split(/\?(.*)/s, 2);
    let found: ReturnType<typeof router.find>;
    try {
      found = router.find(req.method === "HEAD" ? "GET" : (req.method ?? ""), path);
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
      refuse(req, res, new HttpError(400, `the path holds a broken % escape: ${path.slice(0, 200)}`), path);
      return true;
    }
    if (!found) return false;
    if ("allow" in found) {
      const also = options.alsoTaken.get(path);
      const methods = [
        ...found.allow,
        ...(also ? [also] : []),
        ...(found.allow.includes("GET") ? ["HEAD"] : []),
      ];
      const allow = [...methods, "OPTIONS"].join(", ");
      if (req.method === "OPTIONS") {
        res.writeHead(204, { allow });
        res.end();
      } else {
        refuse(
          req,
          res,
          new HttpError(405, `${req.method} is not served here; use ${allow}`, { allow }),
          path,
        );
      }
      return true;
    }
    if (options.shutdownSignal.aborted) {
      refuse(req, res, shutdownError(options.shutdownSignal), path);
      return true;
    }
    const started = performance.now();
    const endpoint = found.binding.path;
    res.on("close", () =>
      options.observe(req.method ?? "", endpoint, res.statusCode, (performance.now() - started) / 1_000),
    );
    answer(options, req, res, found.binding, found.variables, path, new URLSearchParams(search)).catch(
      (error: unknown) => {
        logger.error({ err: error, path }, "a REST call ended without an answer");
        refuse(req, res, failure(ErrorReason.INTERNAL, "internal error"), path);
      },
    );
    return true;
  };
}

async function answer(
  options: RestOptions,
  req: HttpRequest,
  res: HttpResponse,
  binding: Binding,
  variables: Record<string, string>,
  path: string,
  query: URLSearchParams,
): Promise<void> {
  const { calls, registry, maxBodyBytes } = options;
  const dialect = dialectOf(path);
  const instead = dialect.methods[methodKey(binding.method)]?.instead?.({ path, query });
  const spoken = instead ? { ...binding, method: instead } : binding;
  const { method } = spoken;
  const call = calls.begin(method, req);
  const trace = traceResponse(req.headers.traceparent);
  if (trace) res.setHeader("traceresponse", trace);
  res.on("close", () => {
    if (!res.writableEnded) call.abort(new ConnectError("the client has gone", Code.Canceled));
  });
  try {
    const { message, json } = await readRequest().catch((error: unknown) =>
      error instanceof HttpError ? Promise.reject(error) : calls.reject(call, error),
    );
    if (method.methodKind === "server_streaming") {
      const lastEventId = req.headers["last-event-id"];
      const resumed =
        typeof lastEventId === "string" && lastEventId !== "" ? { ...message, cursor: lastEventId } : message;
      const form = chooseForm(method, req.headers.accept);
      const toJson = (each: object) => spell(method.output, each as never, dialect.spelling, registry);
      await writeStream(req, res, await calls.stream(call, resumed), form, {
        method,
        dialect,
        path,
        toJson,
      });
      return;
    }
    assertAcceptable(req.headers.accept);
    const { message: output, header } = await calls.unary(call, message);
    const spelled = spell(method.output, output, dialect.spelling, registry);
    const shown = binding.responseBody === "" ? spelled : (spelled[binding.responseBody] as JsonObject);
    const speak = dialect.methods[methodKey(method)]?.answer;
    await writeAnswer(req, res, speak ? speak(shown, json) : dialect.answer(method, shown), header);
  } catch (error) {
    const requestId = call.values.get(requestIdKey);
    if (requestId !== "" && !res.headersSent) res.setHeader("x-request-id", requestId);
    await refuse(req, res, error, path);
  } finally {
    call.abort();
  }

  async function readRequest() {
    const body = binding.body === "" ? undefined : await readJsonBody(req, maxBodyBytes);
    return buildRequest(spoken, dialect, { path, query, variables, body }, registry);
  }
}

/** Says that the call is part of the caller's trace (W3C Trace Context, level 2). */
function traceResponse(traceparent: string | string[] | undefined): string | undefined {
  const traceId = /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}$/.exec(
    String(traceparent ?? ""),
  )?.[1];
  return traceId && `00-${traceId}-${randomBytes(8).toString("hex")}-00`;
}

/** Tells an error in the dialect of the path. */
async function refuse(req: HttpRequest, res: HttpResponse, error: unknown, path: string): Promise<void> {
  if (res.headersSent || res.destroyed) return;
  const dialect: Dialect = dialectOf(path);
  const shown = error instanceof HttpError ? error : toCallerError(error, "");
  const header = shown instanceof ConnectError ? shown.metadata : new Headers();
  if (shown instanceof ConnectError && shown.code === Code.Unauthenticated) {
    header.set("www-authenticate", 'Bearer realm="pulsewire"');
  }
  await writeAnswer(req, res, dialect.failure(shown, path), header);
}

function assertAcceptable(accept: string | undefined): void {
  if (accept === undefined || accept.trim() === "") return;
  const types = accept.split(",").map((part) => part.split(";", 1)[0]?.trim().toLowerCase());
  const readable = types.some(
    (type) =>
      type === "*/*" ||
      type === "application/*" ||
      type === "application/json" ||
      type === "application/problem+json",
  );
  if (!readable)
    throw new HttpError(
      406,
      `this call answers with application/json, which '${accept.slice(0, 100)}' does not accept`,
    );
}
