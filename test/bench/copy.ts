import { Client, type ClientConfig, type Connection, type Submittable } from "pg";
import { batchCopyText } from "./events.ts";
import type { Caller, Workload } from "./workload.ts";

const table = "bench_events";
/** All but the number of the transaction, which the database fills in. */
const columns =
  "tenant_id, id, event_id, event_type, user_id, session_id, severity, priority, occurred_at, body, metrics, source_service";
const tenantId = "00000000-0000-7000-8000-000000000000";

/**
 * The yardstick: plain COPY of the same rows into a table with the columns of `events` and nothing else, no index, no row
 * security, a commit for each batch.
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
      await client.query(
        `drop table if exists ${table}; create table ${table} (like pulsewire.events including defaults)`,
      );
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
      submit: (connection: Connection) => connection.query(`copy ${table} (${columns}) from stdin`),
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
