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
  owns: (path) => /^\/api\/v1\/(auth|ingestion)\//.test(path),
  spelling: { names: "proto", int64: "number" },
  ignoreUnknownFields: true,
  methods: {
    "IngestionService.IngestEvent": {
      request: (sent) => ({ ...sent, event: eventOf(sent.event as JsonObject | undefined) }),
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
      answer: (answer) => ({
        status: 201,
        body: { success: true, ...answer, message: "Tenant registered; log in with the temporary password" },
      }),
    },
  },
  answer: plainAnswer,
  failure(error, path) {
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
    return { status: httpStatusOf(error), contentType, body: { detail: error.rawMessage, path } };
  },
};

/** The severity in PulseStream's words. */
function eventOf(event: JsonObject | undefined): JsonObject {
  if (event?.severity === undefined) return event ?? {};
  return { ...event, severity: enumName(SeveritySchema, event.severity, "event.severity") };
}
