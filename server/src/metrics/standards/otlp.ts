/** The services of OTLP: metrics become samples, log records events; what is refused is told as a partial success. */
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import type { LogsService } from "../../gen/opentelemetry/proto/collector/logs/v1/logs_service_pb.js";
import type { MetricsService } from "../../gen/opentelemetry/proto/collector/metrics/v1/metrics_service_pb.js";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import { outcomeOf } from "../../ingestion/answer.ts";
import { callerOf } from "../../rpc/caller.ts";
import { failure } from "../../rpc/errors.ts";
import type { Refused } from "./incoming.ts";
import { readLogs } from "./otlp-logs.ts";
import { readMetrics } from "./otlp-metrics.ts";
import { namedStore, tellRefused, writeIncoming } from "./write-incoming.ts";

export function otlpMetricsHandlers({ incoming }: Context): ServiceImpl<typeof MetricsService> {
  return {
    async export(request, call) {
      const named = namedStore(call.requestHeader);
      const { refused } = await writeIncoming(incoming, call, readMetrics(request), named);
      if (refused.length === 0) return {};
      const rejectedDataPoints = BigInt(refused.reduce((sum, { samples }) => sum + samples, 0));
      return { partialSuccess: { rejectedDataPoints, errorMessage: tellRefused(refused) } };
    },
  };
}

export function otlpLogsHandlers({ config, events }: Context): ServiceImpl<typeof LogsService> {
  const { maxBatchEvents } = config.ingestion;
  return {
    async export(request, call) {
      const { tenantId } = callerOf(call);
      const rows = readLogs(request).map(events.reader.ofMessage);
      const refused: Refused[] = [];
      for (let at = 0; at < rows.length; at += maxBatchEvents) {
        const batch = rows.slice(at, at + maxBatchEvents);
        const path = (index: number) => `log_records[${at + index}]`;
        const result = await events.ingest(tenantId, {
          rows: batch,
          sentAt: undefined,
          allowPartial: true,
          path,
        });
        const { retryDelayMs, retryReason } = result;
        if (batch.some(({ status }) => status === "retry")) {
          // A partial success would tell the sender to drop them. What was written is known when it comes again.
          throw failure(ErrorReason.OVERLOADED, retryReason, { retryAfterMs: retryDelayMs });
        }
        for (const row of batch) {
          if (!row.violations && row.status !== "conflict") continue;
          const { field, message } = outcomeOf(row, result);
          refused.push({ samples: 1, reason: `${field}: ${message}` });
        }
      }
      if (refused.length === 0) return {};
      return {
        partialSuccess: {
          rejectedLogRecords: BigInt(refused.length),
          errorMessage: tellRefused(refused),
        },
      };
    },
  };
}
