import { BinaryReader } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

/** @throws ConnectError where HTTP itself says that the call failed, as proxies do */
export function checkStatus(status: number, header: Headers): void {
  if (status === 200) return;
  throw new ConnectError(`HTTP ${status}`, codeOfHttp[status] ?? Code.Unknown, header);
}

/** As gRPC maps them. */
const codeOfHttp: Record<number, Code> = {
  400: Code.Internal,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.Unimplemented,
  429: Code.Unavailable,
  502: Code.Unavailable,
  503: Code.Unavailable,
  504: Code.Unavailable,
};

/** @throws ConnectError with the details, where the trailer says that the call failed */
export function checkTrailer(trailer: Headers): void {
  const status = trailer.get("grpc-status");
  if (status === "0") return;
  // Without a status the answer was cut off.
  if (status === null) throw new ConnectError("The answer has no status.", Code.Unavailable, trailer);
  const code = Number(status) in Code ? (Number(status) as Code) : Code.Unknown;
  const error = new ConnectError(decodeText(trailer.get("grpc-message") ?? ""), code, trailer);
  error.details = detailsOf(trailer.get("grpc-status-details-bin") ?? "");
  throw error;
}

/** It is percent-encoded, but not by everybody. */
function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The `google.protobuf.Any`s of a `google.rpc.Status` in base64. */
function detailsOf(base64: string): ConnectError["details"] {
  const details: Detail[] = [];
  const reader = new BinaryReader(Buffer.from(base64, "base64"));
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 3) details.push(readAny(new BinaryReader(reader.bytes())));
    else reader.skip(type, field);
  }
  return details;
}

function readAny(reader: BinaryReader): Detail {
  const any: Detail = { type: "", value: new Uint8Array(0) };
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (field === 1) any.type = reader.string().replace(/^.*\//, "");
    else if (field === 2) any.value = reader.bytes();
    else reader.skip(type, field);
  }
  return any;
}

interface Detail {
  type: string;
  value: Uint8Array;
}
