/**
 * Statements that are sent at once and answered at once, in one transaction: where each waits for the one before, most of
 * the time goes into the ways there and back.
 */
import type { CompiledQuery } from "kysely";
import type { Connection, Pool, PoolClient, Submittable } from "pg";
import { keptName } from "./kept-statements.ts";
import { classifyDatabaseError } from "./sqlstate.ts";
import { assertUuid, retryPause, transactionAttempts } from "./tenant.ts";

/** A statement that is kept (see `keepStatements`) and whose rows nobody reads. */
export type PipelinedStatement = Pick<CompiledQuery, "sql" | "parameters">;

const enterTenant = "/* kept as enter_tenant */ select set_config('pulsewire.tenant_id', $1, true)";

/**
 * Runs the statements of each tenant as that tenant, in the order given, in one transaction: all or none. Fails with the
 * first error; one that rolls a transaction back for the sake of another is tried again, as by `withTenant`.
 */
export async function pipelineForTenants(
  pool: Pool,
  tenants: ReadonlyMap<string, readonly PipelinedStatement[]>,
): Promise<void> {
  const statements: PipelinedStatement[] = [];
  for (const [tenantId, own] of tenants) {
    assertUuid(tenantId);
    statements.push({ sql: enterTenant, parameters: [tenantId] }, ...own);
  }
  for (let attempt = 1; ; attempt++) {
    const client = await pool.connect();
    try {
      await run(client, statements);
      return;
    } catch (error) {
      if (attempt >= transactionAttempts || classifyDatabaseError(error)?.kind !== "retry") throw error;
    } finally {
      client.release();
    }
    await retryPause(attempt);
  }
}

/** What is known of the prepared statements of a connection. */
interface Prepared {
  readonly names: Set<string>;
  /** Parsed in a pipeline that failed: before the error or not. */
  readonly doubtful: Set<string>;
}

const preparedOn = new WeakMap<Connection, Prepared>();

/** The parts of a connection that have no types. */
interface PipelineConnection extends Connection {
  close(statement: { type: "S"; name: string }): void;
}

function run(client: PoolClient, statements: readonly PipelinedStatement[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const parsed: string[] = [];
    let prepared: Prepared | undefined;
    const pipeline = {
      submit(connection: PipelineConnection) {
        prepared = preparedOn.get(connection) ?? { names: new Set(), doubtful: new Set() };
        preparedOn.set(connection, prepared);
        connection.stream.cork();
        for (const statement of statements) send(connection, prepared, statement, parsed);
        // Without BEGIN, everything up to here is one transaction.
        connection.sync();
        connection.stream.uncork();
      },
      handleCommandComplete() {},
      handleDataRow() {},
      handleError(error: Error) {
        for (const name of parsed) {
          prepared?.names.delete(name);
          prepared?.doubtful.add(name);
        }
        reject(error);
      },
      handleReadyForQuery() {
        resolve();
      },
    };
    client.query(pipeline as unknown as Submittable);
  });
}

function send(
  connection: PipelineConnection,
  { names, doubtful }: Prepared,
  { sql: text, parameters }: PipelinedStatement,
  parsed: string[],
): void {
  // Not the name that the same statement has outside of pipelines, for who has parsed it there is not known here.
  const name = `piped_${keptName(text)}`;
  if (!names.has(name)) {
    if (doubtful.delete(name)) connection.close({ type: "S", name });
    connection.parse({ name, text, types: [] }, true);
    names.add(name);
    parsed.push(name);
  }
  const values = parameters.map((value) =>
    value === null || Buffer.isBuffer(value) ? value : String(value),
  );
  connection.bind({ statement: name, values, valueMapper: (value: unknown) => value }, true);
  connection.execute({}, true);
}
