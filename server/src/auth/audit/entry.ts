/** An entry of the audit log and its hash. */
import { hash } from "node:crypto";
import { create, toJson } from "@bufbuild/protobuf";
import { configure } from "safe-stable-stringify";
import { type AuditEntry, AuditEntrySchema } from "../../gen/pulsewire/auth/v1/audit_pb.js";

/** What stands before the first entry of a chain. */
export const firstPreviousHash: Uint8Array = new Uint8Array(32);

/**
 * The canonical form of RFC 8785. ProtoJSON holds no number that JavaScript writes otherwise, no lone surrogate
 * (texts are made well-formed on entry) and no cycle, so sorted keys are all that is left to do.
 */
const canonical = configure({ bigint: false, circularValue: Error, strict: true });

/** SHA-256 over the entry's canonical ProtoJSON without `hash`. */
export function hashOfEntry(entry: AuditEntry): Buffer {
  const json = toJson(AuditEntrySchema, create(AuditEntrySchema, { ...entry, hash: new Uint8Array() }));
  return hash("sha256", canonical(json) as string, "buffer");
}

/** The line of an export: the form that the hash is made of, plus `hash`. */
export function lineOfEntry(entry: AuditEntry): string {
  return `${canonical(toJson(AuditEntrySchema, entry))}\n`;
}
