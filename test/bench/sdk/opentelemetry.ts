import { SeverityNumber } from "@opentelemetry/api-logs";
import { OTLPLogExporter } from "@opentelemetry/exporter-logs-otlp-proto";
import { CompressionAlgorithm } from "@opentelemetry/otlp-exporter-base";
import { BatchLogRecordProcessor, LoggerProvider } from "@opentelemetry/sdk-logs";
import type { Library, LibraryOptions } from "./library.ts";

export function open({ url, gzip, defaults, queue = 250_000 }: LibraryOptions): Library {
  const exporter = new OTLPLogExporter({
    url: `${url}/v1/logs`,
    compression: gzip ? CompressionAlgorithm.GZIP : CompressionAlgorithm.NONE,
  });
  const sizes = defaults ? {} : { maxQueueSize: queue, maxExportBatchSize: 4000 };
  const processor = new BatchLogRecordProcessor({ exporter, ...sizes });
  const provider = new LoggerProvider({ processors: [processor] });
  const logger = provider.getLogger("bench");
  return {
    add({ type, user, session, payload }) {
      logger.emit({
        timestamp: Date.now(),
        severityNumber: SeverityNumber.INFO,
        body: type,
        attributes: { "user.id": user, "session.id": session, ...payload },
      });
    },
    flush: () => provider.forceFlush(),
    close: () => provider.shutdown(),
  };
}
