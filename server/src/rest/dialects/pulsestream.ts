import type { JsonObject } from "@bufbuild/protobuf";
import { BadRequestSchema } from "../../gen/google/rpc/error_details_pb.js";
import { ProcessingStatusSchema, SeveritySchema } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { type Dialect, plainAnswer } from "../dialect.ts";
import { HttpError } from "../http-error.ts";
import { httpStatusOf, reasonOf } from "../http-status.ts";
import { enumName, lowerWord } from "../words.ts";

/** PulseStream (its deployment plan): snake_case, `success` and `message` beside the answer, errors as `detail`. */
export const pulsestream: Dialect = {
  name: "pulsestream",
  title: "PulseStream",
  errorSchema: {
    type: "object",
    properties: {
      detail: {
        anyOf: [
          { type: "string" },
          {
            type: "array",
            items: {
              type: "object",
              properties: {
                loc: { type: "array", items: { type: "string" } },
                msg: { type: "string" },
                type: { type: "string" },
              },
              required: ["loc", "msg", "type"],
            },
          },
        ],
      },
    },
    required: ["detail"],
  },
  owns: (path) => /^\/api\/v1\/(auth|ingestion)\//.test(path),
  spelling: { names: "proto", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "IngestionService.IngestEvent": {
      request: (sent) => ({ ...sent, event: eventOf(sent.event as JsonObject | undefined) }),
      documented: {
        200: {
          success: true,
          event_id: "018c5d2e-7f00-7000-8000-000000000000",
          ingested_at: "2024-01-30T12:34:56Z",
          processing_status: "queued",
          message: "Event ingested successfully",
        },
      },
      answer: (answer) => ({
        status: 200,
        body: {
          success: true,
          event_id: answer.event_id as string,
          ingested_at: answer.received_at as string,
          processing_status: lowerWord(ProcessingStatusSchema, answer.processing_status),
          message: answer.duplicate ? "Event was ingested before (duplicate)" : "Event ingested successfully",
        },
      }),
    },
    "IngestionService.IngestEvents": {
      request: (sent) => ({
        ...sent,
        events: Array.isArray(sent.events)
          ? sent.events.map((each) => eventOf(each as JsonObject))
          : (sent.events ?? []),
      }),
      documented: {
        200: {
          success: true,
          total: 2,
          accepted: 2,
          duplicate: 0,
          conflict: 0,
          rejected: 0,
          retry: 0,
          event_ids: ["018c5d2e-7f00-7000-8000-000000000000"],
          ingested_at: "2024-01-30T12:34:56Z",
          processing_status: "queued",
          message: "Batch ingested successfully",
        },
      },
      answer: (answer) => {
        const counts = answer.counts as JsonObject;
        const outcomes = answer.outcomes as JsonObject[];
        return {
          status: 200,
          body: {
            success: true,
            ...counts,
            event_ids: outcomes.map(({ id }) => id as string),
            ingested_at: answer.received_at as string,
            processing_status: "queued",
            message: "Batch ingested successfully",
          },
        };
      },
    },
    "AuthService.RegisterTenant": {
      documented: {
        201: {
          success: true,
          tenant: {
            id: "018c5d2e-7f00-7000-8000-000000000000",
            name: "My Test Company",
            slug: "my-test-company",
          },
          owner: { id: "018c5d2e-7f00-7000-8000-000000000001", email: "owner@testcompany.com" },
          temporary_password: "…",
          message: "Tenant registered; log in with the temporary password",
        },
      },
      answer: (answer) => ({
        status: 201,
        body: { success: true, ...answer, message: "Tenant registered; log in with the temporary password" },
      }),
    },
  },
  answer: plainAnswer,
  failure(error) {
    const contentType = "application/json";
    if (error instanceof HttpError) {
      return { status: error.status, contentType, body: { detail: error.message }, headers: error.headers };
    }
    // What FastAPI, which PulseStream is built on, says of a body that breaks its rules.
    if (reasonOf(error) === "INVALID_FIELD" || reasonOf(error) === "MALFORMED_REQUEST") {
      const fields = error.findDetails(BadRequestSchema).flatMap(({ fieldViolations }) => fieldViolations);
      const detail = fields.map(({ field, description, reason }) => ({
        loc: ["body", ...field.replace(/^event\./, "").split(".")],
        msg: description,
        type: reason,
      }));
      const whole = [{ loc: ["body"], msg: error.rawMessage, type: "json_invalid" }];
      return { status: 422, contentType, body: { detail: detail.length > 0 ? detail : whole } };
    }
    return { status: httpStatusOf(error), contentType, body: { detail: error.rawMessage } };
  },
};

/** The severity in PulseStream's words. */
function eventOf(event: JsonObject | undefined): JsonObject {
  if (typeof event?.severity !== "string") return event ?? {};
  return { ...event, severity: enumName(SeveritySchema, event.severity, "event.severity") };
}
