import { create, createRegistry } from "@bufbuild/protobuf";
import { BoolValueSchema, StringValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { pino } from "pino";
import { ErrorInfoSchema } from "../../server/src/gen/google/rpc/error_details_pb.js";
import {
  type GetProgressRequest,
  type WatchProgressRequest,
  WatchProgressResponseSchema,
} from "../../server/src/gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../../server/src/gen/pulsewire/progress/v1/progress_service_pb.js";
import { createRpcHandler } from "../../server/src/listener/handler.ts";
import type { LeanCounts } from "../../server/src/listener/lean/path.ts";
import { createListener } from "../../server/src/listener/port.ts";
import { errorsInterceptor, explainProtocolError } from "../../server/src/rpc/errors.ts";
import { PushStream } from "../../server/src/rpc/push-stream.ts";
import { validateInterceptor } from "../../server/src/rpc/validate.ts";

/** Largest message that the twins read. */
export const twinReadMaxBytes = 4_096;

/** Two listeners with the same handlers: one with the lean path and one where connect-node takes every call. */
export interface Twins extends AsyncDisposable {
  readonly lean: number;
  readonly plain: number;
  readonly counts: Readonly<LeanCounts>;
}

export async function startTwins(): Promise<Twins> {
  const logger = pino({ level: "silent" });
  const limits = { readMaxBytes: twinReadMaxBytes, lingerTimeoutMs: 200 };
  const start = async (withLean: boolean) => {
    const { handler, lean } = createRpcHandler({
      routes,
      interceptors: [errorsInterceptor(logger), validateInterceptor],
      shutdownSignal: new AbortController().signal,
      limits,
      amendError: explainProtocolError(limits),
      registry: createRegistry(ErrorInfoSchema, BoolValueSchema, StringValueSchema),
      fallback(_, res) {
        res.writeHead(404);
        res.end();
      },
      logger,
    });
    const listener = createListener({ handler, limits, logger, ...(withLean && { lean }) });
    const { port } = await listener.listen({ host: "127.0.0.1", port: 0 });
    return { port, lean, destroy: () => listener.destroy() };
  };
  const [lean, plain] = [await start(true), await start(false)];
  return {
    lean: lean.port,
    plain: plain.port,
    counts: lean.lean.counts,
    async [Symbol.asyncDispose]() {
      await Promise.all([lean.destroy(), plain.destroy()]);
    },
  };
}

/**
 * The file name says what to do, so that random requests reach everything that a handler can: `echo`, `large`, `error`,
 * `details`, `throw`, `headers`, `cookies`, `odd-header`, `slow`, `unwritable`.
 */
function routes(router: ConnectRouter): void {
  router.rpc(ProgressService.method.getProgress, async (request: GetProgressRequest, context) => {
    await act(request.filename, context);
    const size = request.filename === "large" ? 3_000 : request.filename.length;
    return {
      progress: { clientKrn: describe(context), filename: "x".repeat(size), version: 7n },
    };
  });
  router.rpc(ProgressService.method.watchProgress, (request: WatchProgressRequest, context) => {
    const count = request.cursor.length;
    const messages = Array.from({ length: count }, (_, index) =>
      create(WatchProgressResponseSchema, {
        cursor: `${describe(context)} ${index} ${request.filename === "large" ? "y".repeat(2_000) : ""}`,
      }),
    );
    return request.skipSnapshot
      ? push(request.filename, messages, context)
      : pull(request.filename, messages, context);
  });
  router.rpc(ProgressService.method.reportProgress, () => ({}));
}

async function* pull<T>(what: string, messages: readonly T[], context: HandlerContext): AsyncGenerator<T> {
  if (what !== "late-error") await act(what, context);
  yield* messages;
  if (what === "late-error") await act("details", context);
}

function push<T>(what: string, messages: readonly T[], context: HandlerContext): PushStream<T> {
  return new PushStream((sink) => {
    act(what, context)
      .then(() => {
        for (const message of messages) sink.write(message);
        sink.end();
      })
      .catch((error: unknown) => sink.end(error));
    return () => {};
  });
}

/** What a handler knows of its call, as a text. */
function describe(context: HandlerContext): string {
  const timeoutMs = context.timeoutMs();
  const asked = [...context.requestHeader].filter(([name]) => name.startsWith("x-")).map(String);
  const { pathname } = new URL(context.url);
  const deadline = timeoutMs === undefined ? "none" : timeoutMs > 2_000 ? "far" : "near";
  return [context.protocolName, context.requestMethod, pathname, deadline, ...asked].join(" ");
}

async function act(what: string, context: HandlerContext): Promise<void> {
  context.responseHeader.set("x-handler", "was here");
  context.responseTrailer.set("x-trailer", "and here");
  switch (what) {
    case "error":
      throw new ConnectError("refused, with ünicode and % signs", Code.FailedPrecondition, { "x-meta": "1" });
    case "details":
      throw new ConnectError("refused with details", Code.NotFound, { "x-meta": "2", "x-more-bin": "AAEC" }, [
        { desc: ErrorInfoSchema, value: { reason: "NOT_FOUND", domain: "test" } },
        { desc: BoolValueSchema, value: { value: true } },
      ]);
    case "throw":
      throw new Error("a secret");
    case "headers":
      context.responseHeader.append("x-many", "one");
      context.responseHeader.append("X-Many", "two");
      context.responseHeader.set("x-ends", "  spaces around  ");
      context.responseTrailer.append("x-many", "three");
      context.responseTrailer.append("x-many", "four");
      context.responseHeader.set("x-gone", "1");
      context.responseHeader.delete("x-gone");
      return;
    case "cookies":
      context.responseHeader.append("set-cookie", "a=1");
      context.responseHeader.append("set-cookie", "b=2");
      return;
    case "odd-header":
      context.responseHeader.set("not a name", "x");
      return;
    case "unwritable":
      context.responseHeader.set("x-control", "\u0001");
      return;
    case "slow":
      // Ends with its deadline, where there is one that is near.
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 40);
        context.signal.addEventListener("abort", () => {
          clearTimeout(timer);
          resolve();
        });
      });
      if (context.signal.aborted) throw context.signal.reason;
      return;
    case "request":
      context.responseHeader.set("x-seen", String(context.requestHeader.get("x-asked")));
      context.requestHeader.append("x-asked", "again");
      context.responseHeader.set("x-seen-then", String(context.requestHeader.get("X-Asked")));
      return;
  }
}
