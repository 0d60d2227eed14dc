import type { PackedEvent } from "../events.ts";
import type { GatewayStore } from "../gateway.ts";
import { type QueuedSample, SamplePacker } from "../samples.ts";
import { type Codec, SpoolBacklog } from "./backlog.ts";
import { Spool, type SpoolOptions } from "./spool.ts";

/** Events from this priority on go first. */
const defaultHighPriority = 8;

/**
 * Opens a directory as the store of a gateway.
 *
 * @throws SpoolLockedError where another process has it, and whatever the file system throws
 */
export function openStore(options: SpoolOptions): GatewayStore {
  const spool = new Spool(options);
  const { highPriority = defaultHighPriority } = options;
  return {
    // In this order they lose their oldest where there is no room.
    samples: new SpoolBacklog(spool, "samples", sampleCodec()),
    events: new SpoolBacklog(spool, "events", eventCodec, ({ priority }) => priority >= highPriority),
    close: () => spool.close(),
  };
}

/** Priority 1, length of the id 3, the id, the encoded event. */
const eventCodec: Codec<PackedEvent> = {
  encode({ id, bytes, priority }) {
    const idBytes = Buffer.byteLength(id);
    const buffer = Buffer.allocUnsafe(4 + idBytes + bytes.length);
    buffer.writeUInt8(Math.max(0, Math.min(255, priority)), 0);
    buffer.writeUIntBE(idBytes, 1, 3);
    buffer.write(id, 4);
    buffer.set(bytes, 4 + idBytes);
    return buffer;
  },
  decode(bytes) {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    const end = 4 + buffer.readUIntBE(1, 3);
    const [id, priority] = [buffer.toString("utf8", 4, end), buffer.readUInt8(0)];
    return { id, bytes: Buffer.from(buffer.subarray(end)), priority };
  },
};

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
    decode(bytes) {
      const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
      const series = packer.seriesOf(buffer.toString("utf8", 16));
      return { series, timeMs: buffer.readDoubleBE(0), value: buffer.readDoubleBE(8) };
    },
  };
}
