export const envelopeBytes = 5;
export const envelopeFlags = { compressed: 1, endStream: 2 } as const;

/** Flags and length, then the data. */
export function envelopeOf(flags: number, data: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(envelopeBytes + data.byteLength);
  bytes[0] = flags;
  bytes.writeUInt32BE(data.byteLength, 1);
  bytes.set(data, envelopeBytes);
  return bytes;
}
