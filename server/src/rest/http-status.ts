import { Code, type ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";

const byCode: Readonly<Record<Code, number>> = {
  [Code.Canceled]: 499,
  [Code.Unknown]: 500,
  [Code.InvalidArgument]: 400,
  [Code.DeadlineExceeded]: 504,
  [Code.NotFound]: 404,
  [Code.AlreadyExists]: 409,
  [Code.PermissionDenied]: 403,
  [Code.ResourceExhausted]: 429,
  [Code.FailedPrecondition]: 400,
  [Code.Aborted]: 409,
  [Code.OutOfRange]: 400,
  [Code.Unimplemented]: 501,
  [Code.Internal]: 500,
  [Code.Unavailable]: 503,
  [Code.DataLoss]: 500,
  [Code.Unauthenticated]: 401,
};

/** Reasons for which HTTP has a status of its own. */
const byReason: Readonly<Record<string, number>> = {
  MESSAGE_TOO_LARGE: 413,
  ETAG_MISMATCH: 412,
};

/** The reason of an error of ours, such as `NOT_FOUND`; empty where it has none. */
export function reasonOf(error: ConnectError): string {
  return error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
}

/** The HTTP status of an error (google.rpc.Code's own mapping, but for reasons that HTTP can tell better). */
export function httpStatusOf(error: ConnectError): number {
  return byReason[reasonOf(error)] ?? byCode[error.code];
}
