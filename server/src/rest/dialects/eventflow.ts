import { STATUS_CODES } from "node:http";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { FunctionStatusSchema } from "../../gen/pulsewire/functions/v1/function_pb.js";
import { type Dialect, plainAnswer, type RestRequest } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf } from "../http-status.ts";
import { capitalWord } from "../words.ts";

/** EventFlow (its API reference): snake_case, bare objects and arrays, errors as `{ error, message }`. */
export const eventflow: Dialect = {
  name: "eventflow",
  owns: (path) => path === "/auth/token" || /^\/v1\/(functions|webhooks)([/:]|$)/.test(path),
  spelling: { names: "proto", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "AuthService.IssueDevelopmentToken": { answer: (answer) => ({ status: 200, body: answer }) },
    "FunctionsService.CreateFunction": {
      answer: ({ function: made }) => ({ status: 201, body: functionOf(made as JsonObject) }),
    },
    "FunctionsService.GetFunction": {
      answer: ({ function: found }) => ({ status: 200, body: functionOf(found as JsonObject) }),
    },
    "FunctionsService.UpdateFunction": {
      answer: ({ function: changed }) => ({ status: 200, body: functionOf(changed as JsonObject) }),
    },
    "FunctionsService.ListFunctions": {
      request: pageOf,
      answer: ({ functions, next_page_token: next }) => ({
        status: 200,
        body: (functions as JsonObject[]).map(functionOf),
        ...(next && { headers: { "x-next-page-token": String(next) } }),
      }),
    },
    "FunctionsService.DeleteFunction": { answer: () => ({ status: 204, body: undefined }) },
    "FunctionsService.InvokeFunction": {
      answer({ invocation }, { name }) {
        const { job_name, id, ...rest } = invocation as JsonObject;
        return {
          status: 200,
          body: {
            message: `Function '${name}' invoked successfully`,
            job_name: job_name as string,
            invocation: { id: id as string, ...rest },
          },
        };
      },
    },
  },
  answer: plainAnswer,
  failure(error) {
    const status = error instanceof HttpError ? error.status : httpStatusOf(error);
    const message = error instanceof HttpError ? error.message : error.rawMessage;
    return {
      status,
      contentType: "application/json",
      body: { error: STATUS_CODES[status] ?? "Error", message },
      ...(error instanceof HttpError && { headers: error.headers }),
    };
  },
};

/** What EventFlow promises is always there; what it does not know, only where it says something. */
function functionOf(found: JsonObject): JsonObject {
  const always = new Set([
    "id",
    "user_id",
    "name",
    "namespace",
    "image",
    "replicas",
    "created_at",
    "updated_at",
  ]);
  const kept = Object.entries(found).filter(([name, value]) => always.has(name) || !isEmpty(value));
  const status = capitalWord(FunctionStatusSchema, found.status);
  const running = status === "Pending" ? {} : { available_replicas: found.available_replicas as number };
  return { ...Object.fromEntries(kept), status, ...running };
}

function isEmpty(value: JsonValue | undefined): boolean {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** The documented answer is all functions; `page` and `limit` are the document's own pagination. */
const allFunctions = 1_000;

function pageOf(sent: JsonObject, { query }: RestRequest): JsonObject {
  const { page: _, limit: __, ...rest } = sent;
  const limit = Number(query.get("limit") ?? sent.page_size ?? allFunctions);
  const page = Number(query.get("page") ?? 1);
  return {
    ...rest,
    pageSize: limit,
    ...(page > 1 && { skip: (page - 1) * limit }),
  };
}
