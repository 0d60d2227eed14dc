import { create } from "@bufbuild/protobuf";
import type { TenantSettingsCache } from "../../auth/tenants/settings.ts";
import { decodeCursor } from "../../db/cursor.ts";
import { withTenant } from "../../db/tenant.ts";
import { ErrorReason } from "../../gen/pulsewire/common/v1/error_reason_pb.js";
import {
  type WatchProgressRequest,
  type WatchProgressResponse,
  WatchProgressResponseSchema,
} from "../../gen/pulsewire/progress/v1/progress_pb.js";
import { failure } from "../../rpc/errors.ts";
import { PushStream, type Sink } from "../../rpc/push-stream.ts";
import { requireOwnClient } from "../clients.ts";
import type { DeltaRow } from "../delta.ts";
import { createAnnouncer } from "./announce.ts";
import { Feed, type FeedParts } from "./feed.ts";
import { loadFiles } from "./snapshot.ts";
import { readEnds } from "./store.ts";
import type { Topic } from "./topic.ts";
import { max, type Watcher } from "./watcher.ts";

/** Everybody who watches progress in this process. */
export interface ProgressFeeds {
  /** Takes changes that were just committed, and tells the other processes how far the tenant's feed has gone. */
  tell(tenantId: string, deltas: readonly DeltaRow[]): void;
  watch(tenantId: string, request: WatchProgressRequest): PushStream<WatchProgressResponse>;
  close(): Promise<void>;
}

export function createProgressFeeds(
  parts: FeedParts & { readonly tenantSettings: TenantSettingsCache; readonly shutdown: AbortSignal },
): ProgressFeeds {
  const { bus, logger, shutdown, tenantSettings, times } = parts;
  const feeds = new Map<string, Feed>();
  const closing = new Set<Promise<void>>();
  const announcer = createAnnouncer(bus, logger);
  let open = 0;

  const feedOf = (tenantId: string): Feed => {
    const found = feeds.get(tenantId);
    if (found) return found;
    const feed: Feed = new Feed(tenantId, parts, () => {
      if (feeds.get(tenantId) === feed) feeds.delete(tenantId);
      const closed = feed.close().finally(() => closing.delete(closed));
      closing.add(closed);
    });
    feeds.set(tenantId, feed);
    return feed;
  };

  shutdown.addEventListener("abort", () => {
    for (const feed of feeds.values()) feed.end(shutdown.reason);
  });

  return {
    tell(tenantId, deltas) {
      const last = deltas.reduce((most, { sequence }) => max(most, sequence), 0n);
      feeds.get(tenantId)?.offer(deltas);
      announcer.announce(tenantId, last);
    },
    watch: (tenantId, request) =>
      new PushStream((sink) => {
        if (shutdown.aborted || open >= times.maxWatchers) {
          sink.end(shutdown.aborted ? shutdown.reason : tooManyWatchers());
          return () => {};
        }
        open++;
        const joined = joinWhenReady(sink, request, {
          topic: () => feedOf(tenantId).topic(request),
          allow: async () => {
            if (request.clientKrn) await requireOwnClient(tenantSettings, tenantId, request.clientKrn);
          },
          parts,
        });
        return () => {
          open--;
          joined.stop();
        };
      }),
    async close() {
      announcer.close();
      await Promise.all([...closing, ...Array.from(feeds.values(), (feed) => feed.close())]);
    },
  };
}

interface Joining {
  topic(): Topic;
  allow(): Promise<void>;
  readonly parts: FeedParts;
}

/** Sends what comes first, then joins the topic. What is returned ends it at any time. */
function joinWhenReady(
  sink: Sink<WatchProgressResponse>,
  request: WatchProgressRequest,
  { topic: topicOf, allow, parts }: Joining,
): { stop(): void } {
  const topic = topicOf();
  const release = topic.hold();
  let watcher: Watcher | undefined;
  let stopped = false;
  let drained = () => {};

  /** Sends a message and waits until there is room for another. */
  const send = async (message: WatchProgressResponse) => {
    if (stopped || sink.write(message)) return;
    await new Promise<void>((resolve) => {
      drained = resolve;
      sink.onDrain(resolve);
    });
  };

  const begin = async (): Promise<bigint> => {
    if (request.cursor) return await resume(topic, request.cursor, parts, send);
    if (request.skipSnapshot) {
      const { tenantId } = topic.feed;
      const { sequence } = await withTenant(parts.db, tenantId, (trx) => readEnds(trx, tenantId));
      await send(create(WatchProgressResponseSchema, { cursor: topic.cursorAt(sequence) }));
      return sequence;
    }
    if (request.filename) {
      const { message, position } = await topic.loadFile();
      await send(message);
      return position;
    }
    const pages = loadFiles(topic, parts, request.includeCompleted);
    for (;;) {
      const page = await pages.next();
      if (page.done) return page.value;
      await send(page.value);
      if (stopped) return 0n;
    }
  };

  const run = async () => {
    try {
      await allow();
      await topic.feed.begun;
      const position = await begin();
      if (stopped) return;
      watcher = topic.join(sink, position);
      await watcher.catchUp();
    } catch (error) {
      if (!stopped) sink.end(error);
    } finally {
      release();
    }
  };
  void run();
  return {
    stop() {
      stopped = true;
      drained();
      if (!watcher) return;
      watcher.end();
      topic.leave(watcher);
    },
  };
}

/** Where a cursor leads to. Throws INVALID_CURSOR and CURSOR_EXPIRED. */
async function resume(
  topic: Topic,
  cursor: string,
  { db }: FeedParts,
  send: (message: WatchProgressResponse) => Promise<void>,
): Promise<bigint> {
  const { tenantId } = topic.feed;
  const [position = "0"] = decodeCursor(cursor, topic.identity, ["integer"], "cursor");
  const { sequence, pruned } = await withTenant(db, tenantId, (trx) => readEnds(trx, tenantId));
  const after = BigInt(position);
  if (after < pruned || after > sequence) {
    throw failure(
      ErrorReason.CURSOR_EXPIRED,
      "the changes after this cursor are no longer kept; leave it empty to begin with a snapshot",
      { metadata: { oldest_cursor: topic.cursorAt(pruned) } },
    );
  }
  await send(create(WatchProgressResponseSchema, { cursor }));
  return after;
}

function tooManyWatchers() {
  return failure(ErrorReason.OVERLOADED, "this server has as many watchers as it can serve; try another", {
    retryAfterMs: 5_000,
  });
}
