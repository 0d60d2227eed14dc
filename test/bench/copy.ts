import { Client, type ClientConfig, type Connection, type Submittable } from "pg";
import { batchCopyText } from "./events.ts";
import type { Caller, Workload } from "./workload.ts";

const table = "bench_events";
const columns =
  "tenant_id uuid not null, id uuid not null, event_id text not null, event_type text not null, user_id text, " +
  "session_id text, severity smallint not null, priority smallint not null, occurred_at timestamptz not null, body json not null";
const tenantId = "00000000-0000-7000-8000-000000000000";

/**
 * The yardstick: plain COPY of the same events into a table with a column for each searched field and JSON for the rest, and
 * nothing else: no index, no row security, a commit for each batch.
 */
export async function copyWorkload(
  database: ClientConfig,
  connections: number,
  batchSize: number,
): Promise<Workload> {
  await using undo = new AsyncDisposableStack();
  const callers: Caller[] = [];
  for (let index = 0; index < connections; index++) {
    const client = new Client(database);
    await client.connect();
    undo.defer(() => client.end());
    if (index === 0) {
      await client.query(`drop table if exists ${table}; create table ${table} (${columns})`);
    }
    const rows = batchCopyText(tenantId, index, batchSize);
    callers.push(async () => {
      await copyInto(client, rows.stamp());
      return batchSize;
    });
  }
  const open = undo.move();
  return { callers, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

/** A COPY of one buffer, in the protocol's own words: node-postgres has no call for it. */
function copyInto(client: Client, data: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    let failure: Error | undefined;
    const copy = {
      submit: (connection: Connection) => connection.query(`copy ${table} from stdin`),
      handleCopyInResponse(connection: Connection & CopyConnection) {
        connection.sendCopyFromChunk(data);
        connection.endCopyFrom();
      },
      handleCommandComplete() {},
      handleError(error: Error) {
        failure = error;
        reject(error);
      },
      handleReadyForQuery() {
        if (!failure) resolve();
      },
    };
    client.query(copy as unknown as Submittable);
  });
}

/** Parts of node-postgres that have no types. */
interface CopyConnection {
  sendCopyFromChunk(chunk: Buffer): void;
  endCopyFrom(): void;
}
