import { randomUUIDv7 } from "node:crypto";

/** Makes the id of a resource: a UUIDv7, so that new rows lie side by side in the index. */
export const newResourceId: () => string = randomUUIDv7;

/** The etag of a resource: changes with every change of it. */
export function etagOf(updatedAt: Date): string {
  return updatedAt.getTime().toString(36);
}
