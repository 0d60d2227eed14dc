/** The body of a REST request: JSON, plain or compressed, of bounded size. */
import type { Readable } from "node:stream";
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate } from "node:zlib";
import type { JsonValue } from "@bufbuild/protobuf";
import { ErrorReason } from "../gen/pulsewire/common/v1/error_reason_pb.js";
import type { HttpRequest } from "../listener/http.ts";
import { failure } from "../rpc/errors.ts";
import { HttpError } from "./http-error.ts";

const decoders = { gzip: promisify(gunzip), deflate: promisify(inflate), br: promisify(brotliDecompress) };
type Encoding = keyof typeof decoders;

/**
 * Reads and parses the body; undefined where there is none. Throws 413, 415, MALFORMED_REQUEST, and MESSAGE_TOO_LARGE for what
 * grows beyond `maxBytes` when it is decompressed.
 */
export async function readJsonBody(req: HttpRequest, maxBytes: number): Promise<JsonValue | undefined> {
  const bytes = await readBytes(req, maxBytes);
  if (bytes.length === 0) return undefined;
  assertJson(req.headers["content-type"]);
  const text = (await decompress(bytes, req.headers["content-encoding"], maxBytes)).toString("utf8");
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text) as JsonValue;
  } catch (error) {
    throw failure(ErrorReason.MALFORMED_REQUEST, `the body is no JSON: ${(error as Error).message}`);
  }
}

function assertJson(contentType: string | undefined): void {
  const type = contentType?.split(";", 1)[0]?.trim().toLowerCase();
  if (type !== undefined && /^application\/(json|[\w.-]+\+json)$/.test(type)) return;
  const given = type === undefined ? "no content-type" : `content-type '${type.slice(0, 80)}'`;
  throw new HttpError(415, `${given}: the body must be JSON; send 'content-type: application/json'`, {
    accept: "application/json",
  });
}

/** The body as it comes, or decompressed as its `content-encoding` says. Throws as `readJsonBody` does. */
export async function readBody(req: HttpRequest, maxBytes: number): Promise<Buffer> {
  return await decompress(await readBytes(req, maxBytes), req.headers["content-encoding"], maxBytes);
}

/** The bytes of the body, compressed or not. Throws MESSAGE_TOO_LARGE. */
export async function readBytes(req: HttpRequest, maxBytes: number): Promise<Buffer> {
  const tooLarge = () =>
    failure(
      ErrorReason.MESSAGE_TOO_LARGE,
      `the body is larger than the ${maxBytes} bytes that this server takes; send less at once`,
      {
        metadata: { limit_bytes: String(maxBytes) },
      },
    );
  if (Number(req.headers["content-length"] ?? 0) > maxBytes) throw tooLarge();
  return await collect(req as Readable, maxBytes, tooLarge);
}

/** An iterator would take longer than all else that is done for a small body. */
function collect(req: Readable, maxBytes: number, tooLarge: () => Error): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const onData = (chunk: Buffer) => {
      length += chunk.length;
      chunks.push(chunk);
      // Not destroyed when reading ends early: the refusal has yet to be sent on the same connection.
      if (length > maxBytes) over(() => reject(tooLarge()));
    };
    const onEnd = () =>
      over(() => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, length)));
    const onError = (error: Error) => over(() => reject(error));
    const onClose = () => over(() => reject(new Error("the client has gone")));
    function over(settle: () => void): void {
      req.off("data", onData).off("end", onEnd).off("error", onError).off("close", onClose);
      if (!req.readableEnded) req.pause();
      settle();
    }
    if (req.readableEnded) onEnd();
    else if (req.destroyed) onClose();
    else req.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
  });
}

async function decompress(bytes: Buffer, encoding: string | undefined, maxBytes: number): Promise<Buffer> {
  if (encoding === undefined || encoding === "" || encoding === "identity") return bytes;
  if (!(encoding in decoders)) {
    throw new HttpError(
      415,
      `content-encoding '${encoding.slice(0, 80)}' is not served; use gzip, deflate, br or none`,
      {
        "accept-encoding": Object.keys(decoders).join(", "),
      },
    );
  }
  try {
    return await decoders[encoding as Encoding](bytes, { maxOutputLength: maxBytes });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") {
      throw failure(
        ErrorReason.MESSAGE_TOO_LARGE,
        `the body is larger than ${maxBytes} bytes when decompressed`,
        {
          metadata: { limit_bytes: String(maxBytes) },
        },
      );
    }
    throw failure(ErrorReason.MALFORMED_REQUEST, `the body is no ${encoding}: ${(error as Error).message}`);
  }
}
