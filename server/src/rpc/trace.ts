import { randomUUID } from "node:crypto";
import { createContextKey } from "@connectrpc/connect";
import { type AnyResponse, type Interceptor, isPromise } from "./interceptor.ts";

/** The id of the call: in the answer's header `x-request-id`, in the log, and in internal errors. */
export const requestIdKey = createContextKey("", { description: "request id" });

const acceptable = /^[\w.:+/=-]{1,128}$/;

/** Takes the caller's `x-request-id` (1 to 128 letters, digits and `.:+/=-_`) or makes one, and sends it back. */
export const traceInterceptor: Interceptor = (next) => (req) => {
  const given = req.header.get("x-request-id");
  const requestId = given !== null && acceptable.test(given) ? given : randomUUID();
  req.contextValues.set(requestIdKey, requestId);
  const tell = (res: AnyResponse) => {
    res.header.set("x-request-id", requestId);
    return res;
  };
  const answer = next(req);
  return isPromise(answer) ? answer.then(tell) : tell(answer);
};
