import { hash } from "node:crypto";

/** A UUID of any version in its usual form: 36 characters, lower case. */
export const uuidForm = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** A UUIDv8 (RFC 9562) from the SHA-256 of a text: the same text has the same id on every server. */
export function uuidFromHash(text: string): string {
  const hex = hash("sha256", text, "hex");
  const variant = "89ab"[Number.parseInt(hex.charAt(16), 16) & 3];
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** The least UUIDv7 of a time: such ids are in the order in which they were made, so times become bounds of ids. */
export function firstUuidv7(time: Date): string {
  const hex = Math.max(0, time.getTime()).toString(16).padStart(12, "0");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-7000-8000-000000000000`;
}
