/** Streams over REST: server-sent events, NDJSON, or text, by `Accept`. */
import type { DescMethod, JsonObject } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { HttpRequest, HttpResponse } from "../listener/http.ts";
import type { StreamAnswer } from "./calls.ts";
import { type Dialect, methodKey } from "./dialect.ts";
import { HttpError } from "./http-error.ts";

export type StreamForm = "text/event-stream" | "application/x-ndjson" | "text/plain" | "text/csv";

/** How messages become text; `json` is the message in the dialect's spelling. */
interface Encoder {
  readonly contentType: string;
  message(json: JsonObject): string | Buffer;
  error(json: string): string;
}

/** Methods whose messages are pieces of a file, in this field, and those whose messages are lines that people read. */
const files: Readonly<Record<string, string>> = {
  "IngestionService.ExportEvents": "ndjson",
  "AuthService.ExportAuditEntries": "ndjson",
  "ProgressService.ExportLineIssues": "data",
};
const textual = new Set(["FunctionsService.StreamLogs"]);

/** The forms that a method's stream can take, its own first. */
export function formsOf(method: DescMethod): readonly StreamForm[] {
  const key = methodKey(method);
  if (key in files) return ["application/x-ndjson", "text/csv", "text/plain"];
  if (textual.has(key)) return ["text/plain", "text/event-stream", "application/x-ndjson"];
  return ["application/x-ndjson", "text/event-stream"];
}

/** The form that the client asks for, or the method's own where it takes anything. Throws 406. */
export function chooseForm(method: DescMethod, accept: string | undefined): StreamForm {
  const offered = formsOf(method);
  const own = offered[0] as StreamForm;
  if (accept === undefined) return own;
  for (const part of accept.split(",")) {
    const type = part.split(";", 1)[0]?.trim().toLowerCase() ?? "";
    if (type === "*/*" || type === "application/*" || type === "application/json") return own;
    const form = offered.find(
      (each) => each === type || (type.endsWith("/*") && each.startsWith(type.slice(0, -1))),
    );
    if (form) return form;
  }
  throw new HttpError(406, `this call answers with ${offered.join(", ")}; accept one of them`);
}

/** Sends messages as they come, at the pace of the reader. What fails before the first one is thrown, for a status. */
export async function writeStream(
  req: HttpRequest,
  res: HttpResponse,
  answer: StreamAnswer,
  form: StreamForm,
  options: { method: DescMethod; dialect: Dialect; path: string; toJson: (message: object) => JsonObject },
): Promise<void> {
  const { method, dialect, path, toJson } = options;
  const encoder = encoderOf(method, form);
  const iterator = answer.messages[Symbol.asyncIterator]() as AsyncIterator<object>;
  let next = await iterator.next();
  res.writeHead(200, {
    ...Object.fromEntries(answer.header),
    "content-type": encoder.contentType,
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  if (req.method === "HEAD") {
    await iterator.return?.();
    res.end();
    return;
  }
  try {
    while (!next.done) {
      if (res.destroyed) return;
      const text = encoder.message(toJson(next.value));
      if (text.length > 0 && !res.write(text)) await drained(res);
      next = await iterator.next();
    }
  } catch (error) {
    // The status is out: the reader learns from the last piece why the stream has ended.
    const { body } = dialect.failure(ConnectError.from(error), path);
    res.write(encoder.error(JSON.stringify(body)));
  } finally {
    await iterator.return?.();
  }
  res.end();
}

function drained(res: HttpResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      res.off("drain", done);
      res.off("close", done);
      resolve();
    };
    res.once("drain", done);
    res.once("close", done);
  });
}

function encoderOf(method: DescMethod, form: StreamForm): Encoder {
  const file = files[methodKey(method)];
  if (file) {
    return {
      contentType: form === "text/csv" ? "text/csv; charset=utf-8" : `${form}; charset=utf-8`,
      message: (json) => Buffer.from((json[file] as string | undefined) ?? "", "base64"),
      error: (json) => `${json}\n`,
    };
  }
  if (form === "text/event-stream") {
    return {
      contentType: "text/event-stream; charset=utf-8",
      message(json) {
        const id = typeof json.cursor === "string" && json.cursor !== "" ? `id: ${json.cursor}\n` : "";
        return `${id}data: ${JSON.stringify(json)}\n\n`;
      },
      error: (json) => `event: error\ndata: ${json}\n\n`,
    };
  }
  if (form === "text/plain") {
    return {
      contentType: "text/plain; charset=utf-8",
      message: (json) =>
        ((json.lines ?? []) as JsonObject[]).map(({ time, text }) => `${time} ${text}\n`).join(""),
      error: (json) => `${json}\n`,
    };
  }
  return {
    contentType: "application/x-ndjson; charset=utf-8",
    message: (json) => `${JSON.stringify(json)}\n`,
    error: (json) => `${json}\n`,
  };
}
