import { randomBytes } from "node:crypto";
import { uuidFromHash } from "../db/uuid.ts";

/**
 * Ids for events in the order of receipt: UUIDv7 (RFC 9562) whose 12 bits after the version count up within a
 * millisecond (method 1 of section 6.2), so that the events of a batch keep their order.
 */
export function createEventIds(now: () => number = Date.now): () => string {
  let millisecond = 0;
  let counter = 0;
  let random = "";
  let used = 0;
  return () => {
    const current = now();
    if (current > millisecond) {
      millisecond = current;
      counter = 0;
    } else if (++counter > 0xfff) {
      millisecond++;
      counter = 0;
    }
    if (used + 16 > random.length) {
      random = randomBytes(4_096).toString("hex");
      used = 0;
    }
    const tail = random.slice(used, used + 16);
    used += 16;
    const time = millisecond.toString(16).padStart(12, "0");
    const variant = "89ab"[Number.parseInt(tail.charAt(0), 16) & 3];
    return `${time.slice(0, 8)}-${time.slice(8)}-7${counter.toString(16).padStart(3, "0")}-${variant}${tail.slice(1, 4)}-${tail.slice(4)}`;
  };
}

/** The time that a UUIDv7 was made at. */
export function timeOfUuidv7(id: string): Date {
  return new Date(Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16));
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/**
 * The dedupe key of an event id: the id itself where it is a UUID, so that keys made in order lie side by side in the
 * index; otherwise a UUIDv8 from its SHA-256. A given UUIDv8 is hashed too, so that none can pose as a hash.
 */
export function eventKey(eventId: string): string {
  const version = uuid.exec(eventId)?.[1];
  if (version !== undefined && version !== "8") return eventId;
  return uuidFromHash(eventId);
}
