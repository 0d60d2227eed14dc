import type { Readable } from "node:stream";
import type { ContextValues } from "@connectrpc/connect";
import type { UniversalHandler } from "@connectrpc/connect/protocol";
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from "@connectrpc/connect-node";
import type { HttpRequest, HttpResponse } from "./http.ts";

/** Takes a call through connect-node. */
export async function callConnect(
  method: UniversalHandler,
  req: HttpRequest,
  res: HttpResponse,
  contextValues: ContextValues | undefined,
): Promise<void> {
  const request = universalRequestFromNodeRequest(req, res, undefined, contextValues);
  // connect-node's own body destroys the request when a handler stops reading early. On HTTP/1.1 that closes the
  // connection before the answer, for example "message too large", is on its way.
  const body = (req as Readable).iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
  await universalResponseToNodeResponse(await method({ ...request, body }), res);
}
