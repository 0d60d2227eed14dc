import { InfluxDB, Point } from "@influxdata/influxdb-client";
import type { Library, LibraryOptions } from "./library.ts";

export function open({ url, gzip, defaults, queue = 250_000 }: LibraryOptions): Library {
  const api = new InfluxDB({ url, token: "bench" }).getWriteApi("org", "bucket", "ns", {
    // It is the batch size that its documentation names.
    ...(!defaults && { batchSize: 5000, maxBufferLines: queue, maxBatchBytes: 50_000_000 }),
    gzipThreshold: gzip ? 1000 : Number.MAX_SAFE_INTEGER,
    writeFailed: () => {},
  });
  return {
    add({ type, user, session, payload }) {
      api.writePoint(
        new Point(type)
          .tag("store", payload.store)
          .tag("method", payload.method)
          .stringField("user", user)
          .stringField("session", session)
          .stringField("mark", payload.mark)
          .floatField("amount", payload.amount)
          .intField("items", payload.items)
          .timestamp(new Date()),
      );
    },
    flush: () => api.flush(true),
    close: () => api.close(),
  };
}
