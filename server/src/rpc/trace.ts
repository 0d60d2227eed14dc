import { randomBytes } from "node:crypto";
import { createContextKey } from "@connectrpc/connect";
import { type AnyResponse, type Interceptor, isPromise } from "./interceptor.ts";

/** The id of the call: in the answer's header `x-request-id`, in the log, and in internal errors. */
export const requestIdKey = createContextKey("", { description: "request id" });

/** The last digits of a number, ready made: `toString(16)` of a large number costs more than all else here. */
const lastDigits = Array.from({ length: 0x1000 }, (_, value) => value.toString(16).padStart(3, "0"));

/** A UUID: 74 random bits, those of one process the same, and a number that counts up from a random one. */
const nextId = (() => {
  const hex = randomBytes(10).toString("hex");
  const variant = "89ab"[randomBytes(1).readUInt8() & 3];
  const prefix = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(12, 15)}-${variant}${hex.slice(15, 18)}-`;
  let count = randomBytes(5).readUIntBE(0, 5);
  let first = "";
  return () => {
    const last = ++count % lastDigits.length;
    if (last === 0 || first === "")
      first =
        prefix +
        Math.floor(count / lastDigits.length)
          .toString(16)
          .padStart(9, "0");
    return first + lastDigits[last];
  };
})();

const acceptable = /^[\w.:+/=-]{1,128}$/;

/** Takes the caller's `x-request-id` (1 to 128 letters, digits and `.:+/=-_`) or makes one, and sends it back. */
export const traceInterceptor: Interceptor = (next) => (req) => {
  const given = req.header.get("x-request-id");
  const requestId = given !== null && acceptable.test(given) ? given : nextId();
  req.contextValues.set(requestIdKey, requestId);
  const tell = (res: AnyResponse) => {
    res.header.set("x-request-id", requestId);
    return res;
  };
  const answer = next(req);
  return isPromise(answer) ? answer.then(tell) : tell(answer);
};
