import type { PostgresPool, PostgresPoolClient } from "kysely";
import type { Pool, PoolClient } from "pg";

const mark = /^\/\* kept as (\w+) \*\/\s/;

/**
 * The pool for Kysely, which knows no prepared statements: a statement that begins with the comment `kept as <name>` is sent under
 * that name, so that each connection parses and plans it once. Its text must always be the same.
 */
export function keepStatements(pool: Pool): PostgresPool {
  const clients = new WeakMap<PoolClient, PostgresPoolClient>();
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      let wrapped = clients.get(client);
      if (!wrapped) {
        wrapped = wrap(client);
        clients.set(client, wrapped);
      }
      return wrapped;
    },
  };
}

/** The name under which a statement is kept; undefined where it is not. */
export function keptName(text: string): string | undefined {
  return mark.exec(text)?.[1];
}

function wrap(client: PoolClient): PostgresPoolClient {
  const query = (text: string, values: unknown[]) => {
    const name = keptName(text);
    return name ? client.query({ name, text, values }) : client.query(text, values);
  };
  return {
    query: query as unknown as PostgresPoolClient["query"],
    release: (destroy) => client.release(destroy),
  };
}
