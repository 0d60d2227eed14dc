import type { GatewayStore } from "../gateway-options.ts";
import { EventPages, type PackedEvent } from "../packed-event.ts";
import { PackedReport } from "../reports.ts";
import { QueuedSample, SamplePacker } from "../samples.ts";
import { type Codec, SpoolBacklog } from "./backlog.ts";
import { Spool, type SpoolOptions } from "./spool.ts";

/** Events from this priority on go first. */
const defaultHighPriority = 8;

/**
 * Opens a directory as the store of a gateway.
 *
 * @throws SpoolLockedError where another process has it, and whatever the file system throws
 */
export function openStore(options: SpoolOptions, highPriority = defaultHighPriority): GatewayStore {
  const spool = new Spool(options);
  return {
    // In this order they lose their oldest where there is no room.
    samples: new SpoolBacklog(spool, "samples", sampleCodec()),
    progress: new SpoolBacklog(spool, "progress", reportCodec),
    events: new SpoolBacklog(spool, "events", eventCodec(), ({ priority }) => priority >= highPriority),
    close: () => spool.close(),
  };
}

/** The event as it stands in a request. Those read back lie in pages of their own, one behind the other. */
function eventCodec(): Codec<PackedEvent> {
  const pages = new EventPages();
  return {
    encode: ({ bytes }) => bytes,
    decode: (bytes, start, end) => pages.copy(bytes, start, end),
  };
}

/** Time 8, value 8, the key of the series. */
function sampleCodec(): Codec<QueuedSample> {
  const packer = new SamplePacker();
  return {
    encode({ series: { key }, timeMs, value }) {
      const buffer = Buffer.allocUnsafe(16 + Buffer.byteLength(key));
      buffer.writeDoubleBE(timeMs, 0);
      buffer.writeDoubleBE(value, 8);
      buffer.write(key, 16);
      return buffer;
    },
    decode(bytes, start, end) {
      const series = packer.seriesOf(bytes.toString("utf8", start + 16, end));
      return new QueuedSample(series, bytes.readDoubleBE(start), bytes.readDoubleBE(start + 8));
    },
  };
}

const reportCodec: Codec<PackedReport> = {
  encode: ({ bytes }) => bytes,
  decode: (bytes, start, end) => new PackedReport(Uint8Array.prototype.slice.call(bytes, start, end)),
};
