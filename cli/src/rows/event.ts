import type { EventInput, SeverityName } from "@pulsewire/sdk";
import { camel, guessAll, momentOf, numberOf, sortFields, textOf } from "./fields.ts";
import { RowError } from "./row.ts";

const known = new Set([
  ...["eventId", "eventType", "title", "message", "severity", "userId", "sessionId", "timestamp", "priority"],
  ...["source", "context", "metrics", "metadata", "payload"],
]);
const objects = new Set(["source", "context", "metrics", "metadata", "payload"]);

const severities: Readonly<Record<string, SeverityName>> = {
  debug: "debug",
  info: "info",
  warn: "warning",
  warning: "warning",
  error: "error",
  critical: "critical",
};

/** What stands in for fields that a row does not have. */
export interface EventDefaults {
  readonly eventType: string | undefined;
  readonly eventId: string | undefined;
  readonly timestamp: number | undefined;
}

/** Makes an event of a row; columns that are no fields of an event go into its payload. Throws RowError. */
export function toEvent(row: Readonly<Record<string, unknown>>, defaults: EventDefaults): EventInput {
  const { fields, others } = sortFields(row, known, objects);
  const eventType = textOf("eventType", fields.eventType) ?? defaults.eventType;
  if (!eventType) throw new RowError("has no eventType; name the column so, or give --type");
  const payload = { ...guessAll(others), ...guessAll((fields.payload ?? {}) as Record<string, unknown>) };
  const text = (name: "title" | "message" | "userId" | "sessionId") => {
    const value = textOf(name, fields[name]);
    return value === undefined ? {} : { [name]: value };
  };
  const timestamp = momentOf("timestamp", fields.timestamp) ?? defaults.timestamp;
  const eventId = textOf("eventId", fields.eventId) ?? defaults.eventId;
  const priority = numberOf("priority", fields.priority);
  return {
    eventType,
    ...(eventId !== undefined && { eventId }),
    ...text("title"),
    ...text("message"),
    ...text("userId"),
    ...text("sessionId"),
    ...(fields.severity !== undefined && { severity: severityOf(fields.severity) }),
    ...(timestamp !== undefined && { timestamp }),
    ...(priority !== undefined && { priority }),
    ...(fields.source !== undefined && { source: sourceOf(fields.source as Record<string, unknown>) }),
    ...(fields.context !== undefined && { context: guessAll(fields.context as Record<string, unknown>) }),
    ...(fields.metadata !== undefined && { metadata: guessAll(fields.metadata as Record<string, unknown>) }),
    ...(fields.metrics !== undefined && { metrics: metricsOf(fields.metrics as Record<string, unknown>) }),
    ...(Object.keys(payload).length > 0 && { payload }),
  };
}

function severityOf(value: unknown): SeverityName {
  const severity =
    severities[
      String(value)
        .toLowerCase()
        .replace(/^severity_/, "")
    ];
  if (severity) return severity;
  throw new RowError(`severity is ${JSON.stringify(value)}, not debug, info, warning, error or critical`);
}

function sourceOf(source: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(source).map(([name, value]) => [camel(name), textOf(`source.${name}`, value) ?? ""]),
  );
}

function metricsOf(metrics: Record<string, unknown>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(metrics).map(([name, value]) => [name, numberOf(`metrics.${name}`, value) ?? 0]),
  );
}
