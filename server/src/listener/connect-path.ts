import type { Readable } from "node:stream";
import type { ContextValues } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { type AmendError, amendErrors } from "./amend-errors.ts";
import { hasArrived, readToEnd } from "./body.ts";
import type { HttpRequest, HttpResponse } from "./http.ts";

/** Takes a call through connect-node; fails if the request cannot be understood or its answer not be delivered. */
export async function callConnect(
  method: UniversalHandler,
  req: HttpRequest,
  res: HttpResponse,
  contextValues: ((req: HttpRequest) => ContextValues) | undefined,
  lingerTimeoutMs: number,
  amend: AmendError,
): Promise<void> {
  const request = universalRequestFromNodeRequest(req, res, undefined, contextValues?.(req));
  // connect-node's own body destroys the request when a handler stops reading early. On HTTP/1.1 that closes the
  // connection before the answer, for example "message too large", is on its way.
  const body = (req as Readable).iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
  const response = await method({ ...request, body });
  if (!("stream" in req) && !hasArrived(req)) await readToEnd(req, lingerTimeoutMs);
  await universalResponseToNodeResponse(await amendErrors(response, req.headers["content-type"], amend), res);
}
