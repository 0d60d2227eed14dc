import type { JsonObject, JsonValue } from "@bufbuild/protobuf";
import { Code, type ConnectError } from "@connectrpc/connect";
import { BadRequestSchema } from "../../gen/google/rpc/error_details_pb.js";
import { EventSchema } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import type { FieldViolation } from "../../rpc/errors.ts";
import { invalidRequest } from "../../rpc/validate.ts";
import type { Dialect } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf, reasonOf } from "../http-status.ts";

/** The document's request schema: these are required here, though the contract can do without. */
const requiredFields = [
  EventSchema.field.eventType,
  EventSchema.field.userId,
  EventSchema.field.sessionId,
  EventSchema.field.timestamp,
];

/** Event Processor (its API documentation): camelCase in `{ success, data }`, errors with a code of its own. */
export const eventProcessor: Dialect = {
  name: "event-processor",
  title: "Event Processor",
  errorSchema: {
    type: "object",
    properties: {
      success: { const: false },
      error: {
        type: "object",
        properties: {
          code: { type: "string" },
          message: { type: "string" },
          details: {
            type: "array",
            items: {
              type: "object",
              properties: { field: { type: "string" }, message: { type: "string" } },
              required: ["field", "message"],
            },
          },
        },
        required: ["code", "message"],
      },
    },
    required: ["success", "error"],
  },
  owns: (path) => /^\/api\/(v1\/(events|analytics)|auth)(\/|$)/.test(path),
  spelling: { names: "json", int64: "number" },
  ignoreUnknownFields: true,
  required: { [EventSchema.typeName]: requiredFields.map(({ name }) => name) },
  methods: {
    "IngestionService.IngestEvent": {
      documented: {
        202: {
          success: true,
          data: {
            eventId: "evt_abc123",
            accepted: true,
            duplicate: false,
            message: "Event accepted for processing",
          },
        },
        200: {
          success: true,
          data: {
            eventId: "evt_abc123",
            accepted: false,
            duplicate: true,
            message: "Event already processed (duplicate)",
          },
        },
      },
      request(sent) {
        requireFields([sent.event as JsonObject], () => "event");
        return sent;
      },
      answer: ({ eventId, duplicate }) => ({
        status: duplicate ? 200 : 202,
        body: success({
          eventId: eventId as string,
          accepted: !duplicate,
          duplicate: duplicate as boolean,
          message: duplicate ? "Event already processed (duplicate)" : "Event accepted for processing",
        }),
      }),
    },
    "IngestionService.IngestEvents": {
      documented: {
        202: {
          success: true,
          data: {
            accepted: 2,
            duplicates: 0,
            total: 2,
            eventIds: ["evt_1", "evt_2"],
            message: "Batch processed successfully",
          },
        },
      },
      request(sent) {
        if (Array.isArray(sent.events))
          requireFields(sent.events as JsonObject[], (index) => `events[${index}]`);
        return sent;
      },
      answer({ counts, outcomes }) {
        const { accepted, duplicate, conflict, rejected, retry, total } = counts as JsonObject;
        const refused = Number(conflict) + Number(rejected) + Number(retry);
        return {
          status: 202,
          body: success({
            accepted: accepted as number,
            duplicates: duplicate as number,
            total: total as number,
            eventIds: (outcomes as JsonObject[]).map(({ id }) => id as string),
            message: refused === 0 ? "Batch processed successfully" : `Batch processed, ${refused} refused`,
            // The document has no word for an event that is refused alone; nothing is said where there is none.
            ...(refused > 0 && { refused: (outcomes as JsonObject[]).filter(({ code }) => code !== "") }),
          }),
        };
      },
    },
    "IngestionService.GetIngestStats": {
      documented: {
        200: {
          success: true,
          data: { ingestionRate: 1250.5, totalIngested: 150000, timestamp: "2024-01-30T12:34:56Z" },
        },
      },
      answer: ({ ingestionRate, totalIngested, timestamp }) => ({
        status: 200,
        body: success({
          ingestionRate: ingestionRate as number,
          totalIngested: totalIngested as number,
          timestamp: timestamp as string,
        }),
      }),
    },
    "IngestionService.GetAnalytics": {
      documented: {
        200: {
          success: true,
          data: {
            totalEvents: 15000,
            timeRange: { start: "2024-01-29T12:00:00Z", end: "2024-01-30T12:00:00Z" },
            eventsByType: [{ eventType: "page_view", count: 8000, percentage: 53.3 }],
            topUsers: [
              {
                userId: "user_abc123",
                eventCount: 150,
                lastEventAt: "2024-01-30T11:59:00Z",
                eventTypes: ["page_view", "click", "purchase"],
              },
            ],
            eventsOverTime: [{ timestamp: "2024-01-30T11:00:00Z", count: 1000 }],
            avgEventsPerUser: 30.5,
            uniqueUsers: 500,
            uniqueSessions: 800,
          },
        },
      },
      answer: (answer) => ({
        status: 200,
        body: success(
          pick(answer, [
            "totalEvents",
            "timeRange",
            "eventsByType",
            "topUsers",
            "eventsOverTime",
            "avgEventsPerUser",
            "uniqueUsers",
            "uniqueSessions",
          ]),
        ),
      }),
    },
    "AuthService.RequestCode": {
      documented: {
        200: { success: true, data: { message: "Verification code sent to user@example.com" } },
      },
      answer: (_, { email }) => ({
        status: 200,
        body: success({ message: `Verification code sent to ${email}` }),
      }),
    },
    "AuthService.VerifyCode": {
      documented: {
        200: {
          success: true,
          data: { token: "eyJ…", user: { id: "uuid-here", email: "user@example.com", role: "USER" } },
        },
      },
      answer: ({ token, user }) => ({
        status: 200,
        body: success({ token: token as string, user: userOf(user as JsonObject) }),
      }),
    },
    "AuthService.CreateApiKey": {
      documented: {
        200: { success: true, data: { apiKey: "evp_…", message: "API key generated successfully" } },
      },
      answer: ({ secret }) => ({
        status: 200,
        body: success({ apiKey: secret as string, message: "API key generated successfully" }),
      }),
    },
    "AuthService.GetMe": {
      documented: {
        200: {
          success: true,
          data: {
            id: "uuid-here",
            email: "user@example.com",
            role: "USER",
            createdAt: "2024-01-30T10:00:00Z",
          },
        },
      },
      answer(answer) {
        const user = (answer.user ?? answer.apiKey) as JsonObject;
        return { status: 200, body: success({ ...userOf(user), createdAt: user.createdAt as string }) };
      },
    },
  },
  answer: (_, answer) => ({ status: 200, body: success(answer) }),
  failure(error, path) {
    const contentType = "application/json";
    if (error instanceof HttpError) {
      return {
        status: error.status,
        contentType,
        body: failed(httpCodes[error.status], error.message),
        headers: error.headers,
      };
    }
    const violations = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
    const details = violations.map(({ field, description }) => ({
      field: camelCase(field.replace(/^event\./, "")),
      message: description,
    }));
    return {
      status: httpStatusOf(error),
      contentType,
      body: failed(codeOf(error, path), error.rawMessage, details),
    };
  },
};

function pick(from: JsonObject, names: readonly string[]): JsonObject {
  return Object.fromEntries(names.flatMap((name) => (name in from ? [[name, from[name] as JsonValue]] : [])));
}

const success = (data: JsonObject): JsonObject => ({ success: true, data });

function failed(code: string, message: string, details: JsonValue[] = []): JsonObject {
  return { success: false, error: { code, message, ...(details.length > 0 && { details }) } };
}

const camelCase = (path: string) => path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** The document knows USER; whoever administers the installation is its ADMIN. */
function userOf({ id, email, platformAdmin }: JsonObject): JsonObject {
  return { id: id as string, email: (email ?? "") as string, role: platformAdmin ? "ADMIN" : "USER" };
}

function requireFields(events: readonly JsonObject[], path: (index: number) => string): void {
  const violations: FieldViolation[] = events.flatMap((event, index) =>
    requiredFields
      .map(({ jsonName }) => jsonName)
      .filter((field) => [undefined, null, ""].includes(event?.[field] as string | null | undefined))
      .map((field) => ({ field: `${path(index)}.${field}`, description: "is required", rule: "required" })),
  );
  if (violations.length > 0) throw invalidRequest(violations);
}

const httpCodes: Record<HttpError["status"], string> = {
  400: "VALIDATION_ERROR",
  404: "NOT_FOUND",
  405: "METHOD_NOT_ALLOWED",
  406: "NOT_ACCEPTABLE",
  408: "REQUEST_TIMEOUT",
  413: "PAYLOAD_TOO_LARGE",
  415: "UNSUPPORTED_MEDIA_TYPE",
};

/** The document's error codes; what it does not name keeps the contract's reason. */
function codeOf(error: ConnectError, path: string): string {
  const reason = reasonOf(error);
  const byKey = path.startsWith("/api/v1/");
  if (error.code === Code.InvalidArgument) return "VALIDATION_ERROR";
  if (reason === "MISSING_CREDENTIALS") return byKey ? "MISSING_API_KEY" : "UNAUTHORIZED";
  if (reason === "INVALID_TOKEN") return "UNAUTHORIZED";
  if (error.code === Code.PermissionDenied) return "FORBIDDEN";
  if (error.code === Code.Internal || error.code === Code.Unknown || error.code === Code.Unavailable) {
    if (path.startsWith("/api/v1/analytics")) return "ANALYTICS_ERROR";
    if (path.endsWith("/api-key")) return "API_KEY_GENERATION_ERROR";
    if (byKey) return "INGESTION_ERROR";
  }
  return reason || Code[error.code].toUpperCase();
}
