import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ReportResultSchema } from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { ProgressService } from "../../gen/pulsewire/progress/v1/progress_service_pb.js";
import { type Dialect, plainAnswer } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf, reasonOf } from "../http-status.ts";
import { lowerWord } from "../words.ts";

const documentedProgress = {
  id: "507f1f77bcf86cd799439011",
  clientKrn: "krn:acme:client:123",
  filename: "sales_data_2024.csv",
  email: "user@acme.com",
  counts: { done: 9988, warn: 15, failed: 5 },
  total: 10000,
  isCompleted: true,
  createdAt: "2024-01-01T10:00:00Z",
  updatedAt: "2024-01-01T10:15:00Z",
} satisfies JsonObject;
const documentedIssue = { line: 150, message: "Invalid date format: 2024-13-01" } satisfies JsonObject;

/** Pebbles (its usage examples): camelCase, bare objects and arrays, errors as `{ error }`. */
export const pebbles: Dialect = {
  name: "pebbles",
  title: "Pebbles",
  errorSchema: {
    anyOf: [
      { type: "object", properties: { error: { type: "string" } }, required: ["error"] },
      {
        type: "object",
        properties: { status: { const: 401 }, body: { type: "string" } },
        required: ["status", "body"],
      },
    ],
  },
  owns: (path) => path.startsWith("/clients/"),
  spelling: { names: "json", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "ProgressService.ReportProgress": {
      documented: {
        200: {
          result: "updated",
          clientKrn: "krn:acme:client:123",
          filename: "sales_data_2024.csv",
          counts: { done: 600, warn: 10, failed: 2 },
          total: 10000,
          isCompleted: false,
          errors: [documentedIssue],
          warnings: [documentedIssue],
        },
      },
      optional: ["total", "errors", "warnings"],
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
      documented: { 200: [documentedProgress] },
      optional: ["total", "email"],
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
      documented: { 200: { ...documentedProgress, errors: [documentedIssue], warnings: [documentedIssue] } },
      optional: ["total", "email"],
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
