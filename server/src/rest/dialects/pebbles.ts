import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ReportResultSchema } from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../../gen/pulsewire/progress/v1/progress_service_pb.js";
import { type Dialect, plainAnswer } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf, reasonOf } from "../http-status.ts";
import { lowerWord } from "../words.ts";

/** Pebbles (its usage examples): camelCase, bare objects and arrays, errors as `{ error }`. */
export const pebbles: Dialect = {
  name: "pebbles",
  owns: (path) => path.startsWith("/clients/"),
  spelling: { names: "json", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "ProgressService.ReportProgress": {
      answer({ result, progress, errors, warnings }) {
        const { clientKrn, filename, counts, total, isCompleted } = progress as JsonObject;
        const word = lowerWord(ReportResultSchema, result);
        const issues = { errors: issuesOf(errors), warnings: issuesOf(warnings) };
        // The document shows the lists on updates; the first and the last answer have them only when they say something.
        const silent = word === "created" || isCompleted === true;
        const shown = Object.entries(issues).filter(([, list]) => !silent || list.length > 0);
        return {
          status: 200,
          body: {
            result: word === "duplicate" ? "updated" : word,
            clientKrn: clientKrn as string,
            filename: filename as string,
            counts: counts as JsonObject,
            ...(total !== undefined && { total }),
            isCompleted: isCompleted as boolean,
            ...Object.fromEntries(shown),
          },
        };
      },
    },
    "ProgressService.ListProgress": {
      // One path for both: with a file name it is that file, with its line issues.
      instead: ({ query }) => (query.get("filename") ? ProgressService.method.getProgress : undefined),
      request: (sent) => ({ pageSize: allFiles, ...sent }),
      answer: ({ progress, nextPageToken }) => ({
        status: 200,
        body: (progress as JsonObject[]).map(progressOf),
        ...(nextPageToken && { headers: { "x-next-page-token": String(nextPageToken) } }),
      }),
    },
    "ProgressService.GetProgress": {
      answer: ({ progress, errors, warnings }) => ({
        status: 200,
        body: {
          ...progressOf(progress as JsonObject),
          errors: issuesOf(errors),
          warnings: issuesOf(warnings),
        },
      }),
    },
  },
  answer: plainAnswer,
  failure(error) {
    const contentType = "application/json";
    if (error instanceof HttpError) {
      return { status: error.status, contentType, body: { error: error.message }, headers: error.headers };
    }
    if (error.code === Code.Unauthenticated) {
      const missing = reasonOf(error) === "MISSING_CREDENTIALS";
      const body = { status: 401, body: missing ? "Missing Authorization header" : error.rawMessage };
      return { status: 401, contentType, body };
    }
    const status = reasonOf(error) === "ALREADY_COMPLETED" ? 409 : httpStatusOf(error);
    return { status, contentType, body: { error: error.rawMessage } };
  },
};

/** The documented answer is all files of the client; further ones follow by `page_token`. */
const allFiles = 1_000;

function progressOf(progress: JsonObject): JsonObject {
  const { id, clientKrn, filename, email, counts, total, isCompleted, createdAt, updatedAt } = progress;
  const shown = { id, clientKrn, filename, email, counts, total, isCompleted, createdAt, updatedAt };
  return Object.fromEntries(
    Object.entries(shown).filter((entry): entry is [string, JsonValue] => entry[1] !== undefined),
  );
}

function issuesOf(issues: JsonValue | undefined): JsonObject[] {
  return ((issues ?? []) as JsonObject[]).map(({ line, message }) => ({
    line: line as number,
    message: message as string,
  }));
}
