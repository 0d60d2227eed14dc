/** Log records of OpenTelemetry as events. */
import { hash } from "node:crypto";
import { create, type JsonObject, type JsonValue, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ExportLogsServiceRequest } from "../../gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import {
  type InstrumentationScope,
  InstrumentationScopeSchema,
} from "../../gen/opentelemetry/proto/common/v1/common_pb.js";
import { type LogRecord, LogRecordSchema } from "../../gen/opentelemetry/proto/logs/v1/logs_pb.js";
import { ResourceSchema } from "../../gen/opentelemetry/proto/resource/v1/resource_pb.js";
import { type Event, EventSchema, Severity } from "../../gen/pulsewire/ingestion/v1/event_pb.js";
import { attributesOf, textOf, timeMs, toJsonValue } from "./otlp-values.ts";

/** The contract's own bounds. */
const maxMessage = 10_000;
const maxName = 200;

/** The events of a request, in its order. */
export function readLogs({ resourceLogs }: ExportLogsServiceRequest): Event[] {
  const seen = new Map<string, number>();
  return resourceLogs.flatMap(({ resource, scopeLogs }) => {
    const about = attributesOf(resource?.attributes ?? []);
    const resourceBytes = resource ? toBinary(ResourceSchema, resource) : new Uint8Array();
    return scopeLogs.flatMap(({ scope, logRecords }) => {
      const scopeBytes = scope ? toBinary(InstrumentationScopeSchema, scope) : new Uint8Array();
      const origin = hash(
        "sha256",
        Buffer.concat([resourceBytes, Buffer.from([0]), scopeBytes]),
        "base64url",
      );
      return logRecords.map((record) => toEvent(record, about, scope, idOf(record, origin, seen)));
    });
  });
}

/**
 * An id that a record has again when its request is sent again, so that it is stored once. Equal records of one request are
 * told apart by their number; one without any time gets its id from the server.
 */
function idOf(record: LogRecord, origin: string, seen: Map<string, number>): string {
  if (record.timeUnixNano === 0n && record.observedTimeUnixNano === 0n) return "";
  const bytes = Buffer.concat([Buffer.from(origin), toBinary(LogRecordSchema, record)]);
  const digest = hash("sha256", bytes, "base64url");
  const number = seen.get(digest) ?? 0;
  seen.set(digest, number + 1);
  return `otlp-${digest}${number > 0 ? `-${number}` : ""}`;
}

function toEvent(
  record: LogRecord,
  about: JsonObject,
  scope: InstrumentationScope | undefined,
  eventId: string,
): Event {
  const attributes = attributesOf(record.attributes);
  const body = toJsonValue(record.body);
  const text = typeof body === "string" ? body : "";
  const word = (value: JsonValue | undefined) => textOf(value).slice(0, maxName);
  const time = timeMs(record.timeUnixNano) ?? timeMs(record.observedTimeUnixNano);
  const payload = payloadOf(body);
  return create(EventSchema, {
    eventId,
    eventType: word(record.eventName || attributes["event.name"]) || "log",
    message: text.slice(0, maxMessage),
    severity: severityOf(record.severityNumber),
    source: { service: word(about["service.name"]), version: textOf(about["service.version"]).slice(0, 100) },
    userId: word(attributes["user.id"] ?? attributes["enduser.id"]),
    sessionId: word(attributes["session.id"]),
    context: {
      resource: about,
      ...(scope && { scope: { name: scope.name, version: scope.version } }),
      ...(record.traceId.length > 0 && { trace_id: Buffer.from(record.traceId).toString("hex") }),
      ...(record.spanId.length > 0 && { span_id: Buffer.from(record.spanId).toString("hex") }),
      ...(record.severityText && { severity_text: record.severityText }),
    },
    metadata: attributes,
    ...(payload && { payload }),
    ...(time !== undefined && { timestamp: timestampFromMs(time) }),
  });
}

/** What of a body does not fit into the message: an object, another value, or a long text. */
function payloadOf(body: JsonValue): JsonObject | undefined {
  if (body === null || (typeof body === "string" && body.length <= maxMessage)) return undefined;
  return typeof body === "object" && !Array.isArray(body) ? body : { body };
}

/** OpenTelemetry has four numbers for each word, from trace (1–4) to fatal (21–24). */
function severityOf(number: number): Severity {
  if (number === 0) return Severity.UNSPECIFIED;
  if (number <= 8) return Severity.DEBUG;
  if (number <= 12) return Severity.INFO;
  if (number <= 16) return Severity.WARNING;
  return number <= 20 ? Severity.ERROR : Severity.CRITICAL;
}
