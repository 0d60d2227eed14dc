import type { WatchProgressRequest } from "../../gen/pulsewire/progress/v1/progress_pb.js";
import type { DeltaRow } from "../delta.ts";

/** What is watched: one file, one client, or, with both empty, the whole tenant. */
export type Scope = Pick<WatchProgressRequest, "clientKrn" | "filename">;

/** One text for one scope; neither part has a line feed. */
export function scopeKey({ clientKrn, filename }: Scope): string {
  return `${clientKrn}\n${filename}`;
}

/** The scopes that a change belongs to. */
export function scopeKeysOf({ clientKrn, filename }: DeltaRow): readonly string[] {
  return ["\n", `${clientKrn}\n`, `${clientKrn}\n${filename}`];
}

export function isInScope({ clientKrn, filename }: Scope, row: DeltaRow): boolean {
  if (clientKrn && clientKrn !== row.clientKrn) return false;
  return !filename || filename === row.filename;
}
