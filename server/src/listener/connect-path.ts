import { type ContextValues, createContextValues } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { type AmendError, amendErrors } from "./amend-errors.ts";
import { hasArrived, readToEnd } from "./body.ts";
import { bodyOf } from "./held.ts";
import type { HttpRequest, HttpResponse } from "./http.ts";
import type { Peer } from "./lean/path.ts";
import { peerOfRequest } from "./peers.ts";

/** Takes a call through connect-node; fails if the request cannot be understood or its answer not be delivered. */
export async function callConnect(
  method: UniversalHandler,
  req: HttpRequest,
  res: HttpResponse,
  prepare: ((values: ContextValues, peer: Peer) => void) | undefined,
  lingerTimeoutMs: number,
  amend: AmendError,
): Promise<void> {
  const values = createContextValues();
  prepare?.(values, peerOfRequest(req));
  const request = universalRequestFromNodeRequest(req, res, undefined, values);
  const response = await method({ ...request, body: bodyOf(req) });
  if (!("stream" in req) && !hasArrived(req)) await readToEnd(req, lingerTimeoutMs);
  await universalResponseToNodeResponse(await amendErrors(response, req.headers["content-type"], amend), res);
}
