import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import type { Context } from "../../context.ts";
import { decodeCursor, encodeCursor, pageOf } from "../../db/cursor.ts";
import { withTenant } from "../../db/tenant.ts";
import { type AuditFilter, AuditOutcome } from "../../gen/pulsewire/auth/v1/audit_pb.js";
import type { AuthService } from "../../gen/pulsewire/auth/v1/auth_service_pb.js";
import { callerOf } from "../../rpc/caller.ts";
import { lineOfEntry } from "./entry.ts";
import { entryMessage } from "./messages.ts";
import { chainEnd, type EntryQuery, listEntries } from "./store.ts";
import { verifyChain } from "./verify.ts";

const defaultPageSize = 100;
/** Entries of one read of an export, and the bytes of a piece: at most an entry beyond is below 1 MiB. */
const exportAtOnce = 200;
const pieceBytes = 900 * 1024;

/** Reads the audit log. Nothing changes it: entries are made by the calls themselves. */
export function auditHandlers({ db }: Context): Partial<ServiceImpl<typeof AuthService>> {
  return {
    async listAuditEntries({ filter, pageSize, pageToken, oldestFirst }, context) {
      const { tenantId } = callerOf(context);
      const query = queryOf(filter);
      const identity = `audit ${tenantId} ${oldestFirst} ${JSON.stringify(query)}`;
      const [position] = pageToken ? decodeCursor(pageToken, identity, ["integer"]) : [];
      const after = position === undefined ? undefined : BigInt(position);
      const limit = pageSize || defaultPageSize;
      const rows = await withTenant(db, tenantId, (trx) =>
        listEntries(trx, tenantId, query, { oldestFirst, after, limit: limit + 1 }),
      );
      const { page, nextPageToken } = pageOf(rows, limit, identity, (row) => [row.sequence.toString()]);
      return {
        auditEntries: page.map(entryMessage),
        nextPageToken,
      };
    },

    async *exportAuditEntries({ filter, cursor }, context) {
      const { tenantId } = callerOf(context);
      const query = queryOf(filter);
      const identity = `audit export ${tenantId} ${JSON.stringify(query)}`;
      let after = BigInt(cursor ? (decodeCursor(cursor, identity, ["integer"], "cursor")[0] ?? 0) : 0);
      const newest = await withTenant(db, tenantId, (trx) => chainEnd(trx, tenantId));
      const until = newest?.sequence ?? 0n;
      for (;;) {
        // A transaction a piece: none stays open while the reader takes its time.
        const position = after;
        const rows = await withTenant(db, tenantId, (trx) =>
          listEntries(trx, tenantId, query, {
            oldestFirst: true,
            after: position,
            until,
            limit: exportAtOnce,
          }),
        );
        let lines: string[] = [];
        let bytes = 0;
        const piece = () => {
          const ndjson = Buffer.from(lines.join(""));
          const count = lines.length;
          lines = [];
          bytes = 0;
          return { ndjson, lines: count, cursor: encodeCursor(identity, [after.toString()]) };
        };
        for (const row of rows) {
          const line = lineOfEntry(entryMessage(row));
          if (bytes > 0 && bytes + line.length > pieceBytes) yield piece();
          lines.push(line);
          bytes += Buffer.byteLength(line);
          after = row.sequence;
        }
        if (lines.length > 0) yield piece();
        if (rows.length < exportAtOnce) return;
      }
    },

    async verifyAuditLog({ fromSequence, untilSequence, expectedHash }, context) {
      const { tenantId } = callerOf(context);
      return await verifyChain(db, tenantId, {
        from: fromSequence,
        until: untilSequence,
        expectedHash,
      });
    },
  };
}

function queryOf(filter: AuditFilter | undefined): Partial<EntryQuery> {
  if (!filter) return {};
  return {
    userId: filter.userId,
    apiKeyId: filter.apiKeyId,
    methods: filter.methods,
    resourceType: filter.resourceType,
    resourceId: filter.resourceId,
    outcome: filter.outcome ? AuditOutcome[filter.outcome] : "",
    addressRange: filter.addressRange,
    occurredFrom: filter.occurredFrom && timestampDate(filter.occurredFrom),
    occurredUntil: filter.occurredUntil && timestampDate(filter.occurredUntil),
  };
}
