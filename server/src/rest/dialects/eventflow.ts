import { STATUS_CODES } from "node:http";
import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { FunctionStatusSchema } from "../../gen/pulsewire/functions/v1/function_pb.js";
import { invalidField } from "../../rpc/errors.ts";
import { type Dialect, plainAnswer, type RestRequest } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf } from "../http-status.ts";
import { capitalWord } from "../words.ts";

const documentedFunction = {
  id: "550e8400-e29b-41d4-a716-446655440000",
  user_id: "alice",
  name: "my-function",
  namespace: "tenant-alice",
  image: "nginx:alpine",
  replicas: 2,
  command: ["nginx", "-g", "daemon off;"],
  env: { ENV: "production", LOG_LEVEL: "info" },
  status: "Pending",
  created_at: "2025-11-08T10:30:00Z",
  updated_at: "2025-11-08T10:30:00Z",
} satisfies JsonObject;

/** Left out where empty, and the replicas until there can be some. */
const optionalOfFunction = ["command", "env", "available_replicas", "ENV", "LOG_LEVEL"];

/** EventFlow (its API reference): snake_case, bare objects and arrays, errors as `{ error, message }`. */
export const eventflow: Dialect = {
  name: "eventflow",
  title: "EventFlow",
  errorSchema: {
    type: "object",
    properties: { error: { type: "string" }, message: { type: "string" } },
    required: ["error", "message"],
  },
  owns: (path) => path === "/auth/token" || /^\/v1\/(functions|webhooks)([/:]|$)/.test(path),
  spelling: { names: "proto", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "AuthService.IssueDevelopmentToken": {
      documented: {
        200: {
          token: "eyJ…",
          user_id: "alice",
          username: "Alice",
          email: "alice@company.com",
          namespace: "tenant-alice",
        },
      },
      answer: (answer) => ({ status: 200, body: answer }),
    },
    "FunctionsService.CreateFunction": {
      documented: { 201: documentedFunction },
      optional: optionalOfFunction,
      answer: ({ function: made }) => ({ status: 201, body: functionOf(made as JsonObject) }),
    },
    "FunctionsService.GetFunction": {
      documented: { 200: { ...documentedFunction, status: "Running", available_replicas: 2 } },
      optional: optionalOfFunction,
      answer: ({ function: found }) => ({ status: 200, body: functionOf(found as JsonObject) }),
    },
    "FunctionsService.UpdateFunction": {
      documented: { 200: { ...documentedFunction, status: "Running", available_replicas: 2 } },
      optional: optionalOfFunction,
      answer: ({ function: changed }) => ({ status: 200, body: functionOf(changed as JsonObject) }),
    },
    "FunctionsService.ListFunctions": {
      documented: { 200: [{ ...documentedFunction, status: "Running", available_replicas: 2 }] },
      optional: optionalOfFunction,
      request: pageOf,
      answer: ({ functions, next_page_token: next }) => ({
        status: 200,
        body: (functions as JsonObject[]).map(functionOf),
        ...(next && { headers: { "x-next-page-token": String(next) } }),
      }),
    },
    "FunctionsService.DeleteFunction": { answer: () => ({ status: 204, body: undefined }) },
    "FunctionsService.InvokeFunction": {
      documented: {
        200: {
          message: "Function 'web-server' invoked successfully",
          job_name: "web-server-invoke-1699564800",
        },
      },
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
    const message = error instanceof HttpError ? error.message : messageOf(error);
    return {
      status,
      contentType: "application/json",
      body: { error: STATUS_CODES[status] ?? "Error", message },
      ...(error instanceof HttpError && { headers: error.headers }),
    };
  },
};

/** EventFlow's own sentences, where its document has one. */
function messageOf(error: ConnectError): string {
  const info = error.findDetails(ErrorInfoSchema)[0];
  if (info?.reason === "NOT_FOUND") return `${info.metadata.resource} '${info.metadata.id}' not found`;
  if (info?.reason === "MISSING_CREDENTIALS") return "missing authorization header";
  const missing = error
    .findDetails(BadRequestSchema)
    .flatMap(({ fieldViolations }) => fieldViolations)
    .find(({ reason }) => reason === "string.min_len" || reason === "required");
  return missing ? `${missing.field} is required` : error.rawMessage;
}

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

function pageNumber(query: URLSearchParams, name: "page" | "limit"): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && value <= 1_000) return value;
  throw invalidField(name, "must be a whole number from 1 to 1,000", "query.integer");
}

function pageOf(sent: JsonObject, { query }: RestRequest): JsonObject {
  const { page: _, limit: __, ...rest } = sent;
  const limit = pageNumber(query, "limit") ?? Number(sent.pageSize ?? allFunctions);
  const page = pageNumber(query, "page") ?? 1;
  return {
    ...rest,
    pageSize: limit,
    ...(page > 1 && { skip: (page - 1) * limit }),
  };
}
