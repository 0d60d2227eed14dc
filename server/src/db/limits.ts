/** Every limit of a connection pool, with its default. */
export const databaseLimits = {
  /** Connections of one process. All processes together must stay below the server's max_connections. */
  maxConnections: 16,
  /** How long a query waits for a free or new connection. */
  connectTimeoutMs: 5_000,
  /** After how long an idle connection is closed. */
  idleTimeoutMs: 60_000,
  /** After how long a connection is replaced, so that a failover or a changed role takes effect. */
  maxLifetimeSeconds: 3_600,
  /** How long one statement may run. */
  statementTimeoutMs: 30_000,
  /** How long one statement may wait for a lock. */
  lockTimeoutMs: 5_000,
  /** How long a transaction may wait for its next statement. */
  idleInTransactionTimeoutMs: 30_000,
};

export type DatabaseLimits = typeof databaseLimits;
