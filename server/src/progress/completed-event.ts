import type { ProgressEventData } from "../webhooks/event-types.ts";
import type { FileState } from "./fold.ts";

/** What webhooks are told when a file is completed: the counts at that moment, to which late reports may still add. */
export function completedEvent(clientKrn: string, filename: string, file: FileState): ProgressEventData {
  return {
    progress_id: file.id,
    client_krn: clientKrn,
    filename,
    email: file.creator.email,
    counts: { done: String(file.done), warn: String(file.warn), failed: String(file.failed) },
    ...(file.total !== null && { total: String(file.total) }),
    error_count: String(file.errorCount),
    warning_count: String(file.warningCount),
    created_at: file.createdAt.toISOString(),
    completed_at: (file.completedAt ?? file.updatedAt).toISOString(),
  };
}
