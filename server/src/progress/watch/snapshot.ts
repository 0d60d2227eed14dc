import { create } from "@bufbuild/protobuf";
import { withTenant } from "../../db/tenant.ts";
import {
  type WatchProgressResponse,
  WatchProgressResponseSchema,
} from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { stateOf } from "../lock-files.ts";
import { toDelta, toProgress } from "../messages.ts";
import type { FileRow } from "../store.ts";
import { readEnds, readFile, readFiles } from "./store.ts";
import type { Topic, TopicParts } from "./topic.ts";

const filesPerMessage = 1_000;

/** A snapshot of one file, in one message. */
export interface FileSnapshot {
  readonly message: WatchProgressResponse;
  /** The number of the last change that is in it. */
  readonly position: bigint;
}

/** Reads the file of a topic of one file. */
export async function loadFile(topic: Topic, { db, times }: TopicParts): Promise<FileSnapshot> {
  const { tenantId } = topic.feed;
  const { ends, file } = await withTenant(db, tenantId, (trx) => readFile(trx, tenantId, topic.scope));
  const now = new Date();
  const message = create(WatchProgressResponseSchema, {
    snapshot: file ? [toProgress(file.client_krn, file.filename, stateOf(file), now, times)] : [],
    snapshotComplete: true,
    cursor: topic.cursorAt(ends.sequence),
  });
  return { message, position: ends.sequence };
}

/**
 * The files of a client or tenant, page by page, with no transaction open in between. A page may be newer than where the
 * feed was when the first was read: the changes up to the newest page follow, but for those that a page has had, and the last
 * message says from where on the feed is to be followed. Until then there is no cursor: whoever is cut off begins anew.
 */
export async function* loadFiles(
  topic: Topic,
  { db, times }: TopicParts,
  withCompleted: boolean,
): AsyncGenerator<WatchProgressResponse, bigint> {
  const { tenantId } = topic.feed;
  const { sequence: begun } = await withTenant(db, tenantId, (trx) => readEnds(trx, tenantId));
  /** Files that are newer than `begun`, and the number of their latest change. */
  const newer = new Map<string, bigint>();
  let reached = begun;
  let page: FileRow[];
  let afterId: string | undefined;
  do {
    page = await withTenant(db, tenantId, (trx) =>
      readFiles(trx, tenantId, topic.scope, withCompleted, filesPerMessage, afterId),
    );
    afterId = page.at(-1)?.id;
    for (const { id, sequence } of page) {
      if (sequence > begun) newer.set(id, sequence);
      if (sequence > reached) reached = sequence;
    }
    if (page.length > 0) {
      const now = new Date();
      const snapshot = page.map((row) => toProgress(row.client_krn, row.filename, stateOf(row), now, times));
      yield create(WatchProgressResponseSchema, { snapshot });
    }
  } while (page.length === filesPerMessage);

  for (let position = begun; position < reached; ) {
    const rows = await topic.readDeltas(position, reached);
    position = rows.at(-1)?.sequence ?? reached;
    const missed = rows.filter(({ fileId, sequence }) => sequence > (newer.get(fileId) ?? 0n));
    if (missed.length === 0) continue;
    yield create(WatchProgressResponseSchema, {
      deltas: missed.map((row) => toDelta(row, times.stallMs)),
    });
  }
  yield create(WatchProgressResponseSchema, { snapshotComplete: true, cursor: topic.cursorAt(reached) });
  return reached;
}
